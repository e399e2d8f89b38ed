#!/usr/bin/env python3
"""Writes the dashboards beside it from the panels below: deploy/grafana/make.py [DIRECTORY]. The JSON is checked in."""
import json
import os
import sys

R = "[$__rate_interval]"
I = 'instance=~"$instance"'


def quantile(q, metric, by):
    return f"histogram_quantile({q}, sum by ({by}, le) (rate({metric}_bucket{{{I}}}{R})))"


# Title, unit, (query, legend)...; a row of two panels each.
DASHBOARDS = {
    "overview": ("engram: overview", [
        ("Lookups per second", "ops", ("sum by (transport) (rate(engram_server_requests_total{%s}%s))" % (I, R), "{{transport}}")),
        ("Rows per second", "ops", ("sum by (transport) (rate(engram_server_rows_total{%s}%s))" % (I, R), "{{transport}}")),
        ("Bytes of rows per second", "Bps", ("sum by (instance) (rate(engram_server_reply_bytes_total{%s}%s))" % (I, R), "{{instance}}")),
        ("Latency p99", "s", (quantile(0.99, "engram_server_request_seconds", "instance"), "{{instance}}")),
        ("Answers by code", "ops", ("sum by (code) (rate(engram_server_requests_total{%s}%s))" % (I, R), "{{code}}")),
        ("Turned away", "ops", ("sum by (reason) (rate(engram_server_rejections_total{%s}%s))" % (I, R), "{{reason}}")),
        ("In flight", "short", ("engram_server_requests_in_flight{%s}" % I, "{{instance}}")),
        ("State", "short", ("engram_server_state{%s} == 1" % I, "{{instance}} {{state}}")),
    ]),
    "latency": ("engram: latency", [
        ("Lookups: p50, p99, p99.9", "s",
         *((quantile(q, "engram_server_request_seconds", "transport"), "{{transport}} p%s" % p) for q, p in ((0.5, "50"), (0.99, "99"), (0.999, "99.9")))),
        ("Stages, p99", "s", (quantile(0.99, "engram_server_stage_seconds", "stage"), "{{stage}}")),
        ("Stages, mean", "s",
         ("sum by (stage) (rate(engram_server_stage_seconds_sum{%s}%s)) / sum by (stage) (rate(engram_server_stage_seconds_count{%s}%s))" % (I, R, I, R),
          "{{stage}}")),
        ("Rows of a lookup: p50, p99", "short",
         *((quantile(q, "engram_server_batch_rows", "instance"), "{{instance}} p%s" % p) for q, p in ((0.5, "50"), (0.99, "99")))),
        ("Cores busy gathering", "short", ('sum by (instance) (rate(engram_server_stage_seconds_sum{stage="gather",%s}%s))' % (I, R), "{{instance}}")),
        ("Cores busy planning", "short", ('sum by (instance) (rate(engram_server_stage_seconds_sum{stage="plan",%s}%s))' % (I, R), "{{instance}}")),
    ]),
    "tables": ("engram: tables", [
        ("Table sets", "short", ("engram_server_table_set_info{%s}" % I, "{{instance}} {{name}} {{state}}")),
        ("Memory by kind of page", "bytes", ("sum by (instance, pages) (engram_server_resident_bytes{%s})" % I, "{{instance}} {{pages}}")),
        ("Share on 4 KiB pages", "percentunit",
         ('sum by (instance, name) (engram_server_resident_bytes{pages="4KiB",%s}) / sum by (instance, name) (engram_server_resident_bytes{%s})' % (I, I),
          "{{instance}} {{name}}")),
        ("Loading", "bytes", ("engram_server_load_bytes{%s}" % I, "{{instance}} {{what}}")),
        ("Scrubbing", "Bps", ("rate(engram_server_scrub_bytes_total{%s}%s)" % (I, R), "{{instance}}")),
        ("Scrub pass", "percentunit", ("engram_server_scrub_pass_ratio{%s}" % I, "{{instance}}")),
        ("Scrub passes", "short", ("engram_server_scrub_passes_total{%s}" % I, "{{instance}}")),
        ("Damages found", "short", ("engram_server_checksum_failures_total{%s}" % I, "{{instance}}")),
    ]),
    "clients": ("engram: clients", [
        ("Leases", "short", ("sum by (name, kind) (engram_server_leases{%s})" % I, "{{name}} {{kind}}")),
        ("Attaches refused", "ops", ("sum by (transport, reason) (rate(engram_server_attach_refusals_total{%s}%s))" % (I, R), "{{transport}} {{reason}}")),
        ("gRPC streams", "short", ("engram_server_grpc_streams{%s}" % I, "{{instance}}")),
        ("Shared-memory clients", "short", ("engram_server_shm_clients{%s}" % I, "{{instance}}")),
        ("RDMA clients", "short", ("engram_server_rdma_clients{%s}" % I, "{{instance}}")),
        ("Workers: batches per second", "ops", ("sum by (instance, client) (rate(engram_client_batches_total%s))" % R, "{{instance}} {{client}}")),
        ("Workers: rows per second", "ops", ("sum by (instance, client) (rate(engram_client_rows_total%s))" % R, "{{instance}} {{client}}")),
        ("Workers: waits for rows, p50, p99", "s",
         *(("histogram_quantile(%s, sum by (instance, le) (rate(engram_client_wait_seconds_bucket%s)))" % (q, R), "{{instance}} p%s" % p)
           for q, p in ((0.5, "50"), (0.99, "99")))),
        ("Workers: batches by what they ended with", "ops", ("sum by (code) (rate(engram_client_waits_total%s))" % R, "{{code}}")),
        ("Certificate: days left", "d", ("(engram_server_tls_certificate_expiry_seconds{%s} - time()) / 86400" % I, "{{instance}}")),
        ("Up since", "dateTimeAsIso", ("engram_server_start_time_seconds{%s} * 1000" % I, "{{instance}}")),
        ("Versions", "short", ("count by (version) (engram_server_build_info{%s})" % I, "{{version}}")),
    ]),
}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard(name, title, panels):
    return {
        "uid": f"engram-{name}", "title": title, "tags": ["engram"], "schemaVersion": 38, "version": 1, "editable": True,
        "refresh": "10s", "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
            {"name": "instance", "type": "query", "datasource": SOURCE, "includeAll": True, "multi": True, "allValue": ".*",
             "query": {"query": "label_values(engram_server_build_info, instance)", "refId": "instance"}, "refresh": 2,
             "current": {"text": "All", "value": "$__all"}}]},
        "panels": [{
            "id": i + 1, "type": "timeseries", "title": panel_title, "datasource": SOURCE,
            "gridPos": {"x": i % 2 * 12, "y": i // 2 * 8, "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 8, "showPoints": "never"}}, "overrides": []},
            "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
            "targets": [{"refId": chr(65 + n), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
                        for n, (expr, legend) in enumerate(queries)],
        } for i, (panel_title, unit, *queries) in enumerate(panels)],
    }


def main():
    directory = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for name, (title, panels) in DASHBOARDS.items():
        with open(os.path.join(directory, f"{name}.json"), "w", encoding="utf-8") as file:
            json.dump(dashboard(name, title, panels), file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()

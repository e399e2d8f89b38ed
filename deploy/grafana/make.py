#!/usr/bin/env python3
"""Writes the dashboards beside it, or into DIRECTORY, from the panels below. The JSON is checked in."""
import argparse
import json
import os

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
R = "[$__rate_interval]"
I = 'job=~"$job",instance=~"$instance"'
SET = I + ',name=~"$set"'
WORKER = 'instance=~"$worker"'
# Of clients of a cluster: workers by their instance, and the set that they have there.
OF_CLUSTER = 'instance=~"$worker",name=~"$set"'
# All programs have metrics of these names: engramd's alone.
OURS = " and on (job, instance) engram_server_build_info"
UNCOUNTED = (" Clients that map the tables (shared memory) or read them over RDMA gather rows by themselves and are not counted here: "
             "their own metrics are on the dashboard \"engram: clients\".")
GREEN, AMBER, RED, BLUE = "green", "orange", "red", "blue"
STATES = {0: ("loading", AMBER), 1: ("serving", GREEN), 2: ("draining", BLUE), 3: ("not ready", RED)}


def rate(metric, by, selector=I):
    return f"sum by ({by}) (rate({metric}{{{selector}}}{R}))"


def quantile(q, metric, by, selector=I):
    """NaN, of what nobody asked for, is left out."""
    return f"histogram_quantile({q}, sum by ({by}, le) (rate({metric}_bucket{{{selector}}}{R}))) >= 0"


def steps(*levels):
    """Thresholds: a colour, then value and colour in turn."""
    found = [{"color": levels[0], "value": None}]
    return {"mode": "absolute", "steps": found + [{"color": levels[i + 1], "value": levels[i]} for i in range(1, len(levels), 2)]}


def targets(queries, **more):
    return [{"refId": chr(65 + n), "datasource": SOURCE, "expr": expr, "legendFormat": legend, **more} for n, (expr, legend) in enumerate(queries)]


def mappings(names):
    return [{"type": "value", "options": {str(value): {"text": text, "color": colour} for value, (text, colour) in names.items()}}]


def panel(kind, title, description, width, height, defaults, options, queries, **more):
    """Where a series has an instance, its status page is a click away."""
    links = [{"title": "Status page of ${__field.labels.instance}", "url": "http://${__field.labels.instance}/statusz", "targetBlank": True}]
    return {"type": kind, "title": title, "description": description, "datasource": SOURCE, "gridPos": {"w": width, "h": height},
            "fieldConfig": {"defaults": {"links": links, **defaults}, "overrides": []}, "options": options,
            "targets": targets(queries, **more)}


def series(title, unit, description, *queries, thresholds=None, least=0, most=None):
    custom = {"fillOpacity": 8, "showPoints": "never", "spanNulls": False}
    defaults = {"unit": unit, "min": least, "custom": custom}
    if most is not None:
        defaults["max"] = most
    if thresholds:
        defaults["thresholds"] = thresholds
        custom["thresholdsStyle"] = {"mode": "line"}
    return panel("timeseries", title, description, 12, 8, defaults,
                 {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "mean", "max"]},
                  "tooltip": {"mode": "multi", "sort": "desc"}}, queries)


def stat(title, unit, description, query, thresholds, legend="", nothing="none", spark=True, names=None):
    defaults = {"unit": unit, "thresholds": thresholds, "color": {"mode": "thresholds"}, "noValue": nothing}
    if names:
        defaults["mappings"] = mappings(names)
    return panel("stat", title, description, 4, 4, defaults,
                 {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area" if spark else "none",
                  "textMode": "value_and_name" if legend else "value", "justifyMode": "auto"}, [(query, legend)])


def timeline(title, description, query, legend, names):
    return panel("state-timeline", title, description, 24, 6,
                 {"mappings": mappings(names), "custom": {"fillOpacity": 80, "lineWidth": 0}, "color": {"mode": "thresholds"}},
                 {"showValue": "auto", "mergeValues": True, "legend": {"displayMode": "list", "placement": "bottom"}}, [(query, legend)])


def table(title, description, query, hidden):
    made = panel("table", title, description, 24, 7, {"noValue": "none"}, {"showHeader": True}, [(query, "")], instant=True, format="table")
    made["transformations"] = [{"id": "organize", "options": {"excludeByName": {name: True for name in ("Time", "Value", "__name__", *hidden)}}}]
    return made


LOOKUPS = [
    series("Lookups per second", "ops", "Lookups that were answered, by the way they came." + UNCOUNTED,
           (rate("engram_server_requests_total", "transport"), "{{transport}}")),
    series("Rows per second", "ops", "Rows that were sent in answers, by the way they went." + UNCOUNTED,
           (rate("engram_server_rows_total", "transport"), "{{transport}}")),
    series("Bytes of rows per second", "Bps", "Bytes of rows in answers, framing left out. Compare with the link: RUNBOOK, \"Network\"." + UNCOUNTED,
           (rate("engram_server_reply_bytes_total", "instance"), "{{instance}}")),
    series("Lookups in flight", "short", "Lookups that were read and are not answered yet.", ("engram_server_requests_in_flight{%s}" % I, "{{instance}}")),
]
TROUBLE = [
    series("Share of dead tokens", "percentunit", "Of lookups by token ids. Positions of images are dead: the model looks up nothing there. Where all "
           "tokens of a lookup are dead, a client may mask too much.",
           ('sum(rate(engram_server_tokens_total{state="dead",%s}%s)) / (sum(rate(engram_server_tokens_total{%s}%s)) > 0) or vector(0)' % (I, R, I, R),
            "dead tokens"),
           ("sum(rate(engram_server_all_dead_lookups_total{%s}%s)) / (sum(rate(engram_server_token_lookups_total{%s}%s)) > 0) or vector(0)" % (I, R, I, R),
            "lookups of dead tokens alone"), most=1),
    series("Clients refused per second", "ops", "Clients that asked to attach. The log and the status page say who.",
           (rate("engram_server_attach_refusals_total", "reason"), "{{reason}}")),
    series("Operators refused per second", "ops", "Calls to the operators' port that were refused or failed, by method and code: UNAUTHENTICATED "
           "and PERMISSION_DENIED are who asks. The log says who (admin_refused).",
           (rate("engram_server_admin_refusals_total", "method, code") + " > 0 or vector(0)", "{{method}} {{code}}")),
    series("Answers by code", "ops", "What lookups ended with. RUNBOOK, EngramFailing, says what each code means.",
           (rate("engram_server_requests_total", "code"), "{{code}}")),
    series("Turned away per second", "ops", "late and queue_full are load, bytes_full are ids of too many batches, draining is a restart, "
           "unauthenticated and permission_denied are who asks.", (rate("engram_server_rejections_total", "reason"), "{{reason}}")),
]
# The numbers of STATES: who is SERVING and not ready has 3.
STATE_QUERY = ('3 * sum by (job, instance) (engram_server_state{state="serving",%s}) - 2 * sum by (job, instance) (engram_server_ready{%s}) '
               '+ 2 * sum by (job, instance) (engram_server_state{state="draining",%s})' % (I, I, I))
FAILED = ('sum(rate(engram_server_requests_total{code!~"OK|CANCELLED",%s}%s) or 0 * rate(engram_server_requests_total{code="OK",%s}%s)) '
          '/ (sum(rate(engram_server_requests_total{%s}%s)) > 0) or vector(0)' % (I, R, I, R, I, R))
TURNED_AWAY = ('sum(rate(engram_server_rejections_total{reason=~"late|queue_full|bytes_full",%s}%s)) '
               '/ (sum(rate(engram_server_requests_total{%s}%s)) > 0) or vector(0)' % (I, R, I, R))
OVERVIEW = {
    "Now": [
        stat("Ready", "short", "How many engramd serve and are ready.", 'sum(engram_server_ready{%s})' % I, steps(RED, 1, GREEN)),
        stat("Not ready", "short", "How many load, drain, have a fenced table set or do not answer Prometheus.",
             'count(engram_server_ready{%s} == 0 or on (job, instance) (up{%s} == 0 and on (job, instance) '
             'last_over_time(engram_server_build_info[1d]))) or vector(0)' % (I, I), steps(GREEN, 1, AMBER)),
        stat("Failed lookups", "percentunit", "Share of lookups that end with an error. EngramFailing fires above 1 %.", FAILED,
             steps(GREEN, 0.001, AMBER, 0.01, RED)),
        stat("Turned away for load", "percentunit", "Share of lookups that come too late or find a queue full. EngramOverloaded fires above 1 %.",
             TURNED_AWAY, steps(GREEN, 0.001, AMBER, 0.01, RED)),
        stat("p99 of lookups over gRPC", "s", "In the server, streams and unary calls. Layer 1 is due 0.2 to 1.3 ms after the token." + UNCOUNTED,
             quantile(0.99, "engram_server_request_seconds", "", I + ',transport=~"grpc_.*"').replace("by (, le)", "by (le)"),
             steps(GREEN, 0.005, AMBER, 0.02, RED), nothing="no lookups"),
        stat("Damaged blocks found", "short", "Since the start. Each fences its table set: RUNBOOK, EngramTableSetFenced.",
             "sum(engram_server_checksum_failures_total{%s})" % I, steps(GREEN, 1, RED)),
    ],
    "Life": [timeline("State", "What each engramd is at. It does not answer where there is a gap.", STATE_QUERY, "{{instance}}", STATES)],
    "Lookups": LOOKUPS,
    "Trouble": TROUBLE,
}
LATENCY = {
    "Lookups": [
        series("Lookups: p50, p99, p99.9", "s", "From a request, read, to its last row handed to the transport, by the way it came." + UNCOUNTED,
               *((quantile(q, "engram_server_request_seconds", "transport"), "{{transport}} p%s" % p) for q, p in ((0.5, "50"), (0.99, "99"), (0.999, "99.9"))),
               thresholds=steps("transparent", 0.02, RED)),
        series("Rows of a lookup: p50, p99", "short", "How large lookups are: what is slow may be large.",
               *((quantile(q, "engram_server_batch_rows", "instance"), "{{instance}} p%s" % p) for q, p in ((0.5, "50"), (0.99, "99")))),
    ],
    "Stages of lookups over gRPC": [
        series("Stages, p99", "s", "plan: parsed, checked, addressed. queue: waits for its turn and for memory (EngramQueueing: 2 ms). gather: the rows are "
               "read from memory. send: until the transport took them.", (quantile(0.99, "engram_server_stage_seconds", "stage"), "{{stage}}"),
               thresholds=steps("transparent", 0.002, RED)),
        series("Stages, mean", "s", "The same, mean.",
               ("%s / (%s > 0)" % (rate("engram_server_stage_seconds_sum", "stage"), rate("engram_server_stage_seconds_count", "stage")), "{{stage}}")),
        series("Cores busy gathering", "short", "Of the lookup threads; their number is --lookup-threads.",
               (rate("engram_server_stage_seconds_sum", "instance", 'stage="gather",' + I), "{{instance}}")),
        series("Cores busy planning", "short", "Parsing, checking and addressing.",
               (rate("engram_server_stage_seconds_sum", "instance", 'stage="plan",' + I), "{{instance}}")),
    ],
}
RESIDENT = "engram_server_resident_bytes"
TABLES = {
    "Now": [
        stat("Sets served", "short", "Table sets that are served by their name, each counted once per engramd.",
             'count(engram_server_table_set_info{state="serving",%s})' % SET, steps(RED, 1, GREEN)),
        stat("Names with different ids", "short", "Names under which replicas of one job serve different sets: RUNBOOK, EngramReplicasDiffer.",
             'count(count by (job, name) (count by (job, name, id) (engram_server_table_set_info{state="serving",%s})) > 1) or vector(0)' % SET,
             steps(GREEN, 1, RED)),
        stat("Fenced sets", "short", "Found damaged in memory: nobody is served their rows.",
             'count(engram_server_table_set_info{state="fenced",%s}) or vector(0)' % SET, steps(GREEN, 1, RED)),
        stat("Tables in memory", "bytes", "Of all that are selected, superseded and retired ones too.", "sum(%s{%s})" % (RESIDENT, SET), steps(BLUE)),
        stat("On 4 KiB pages", "percentunit", "Share of the tables. EngramSmallPages fires above 10 %.",
             'sum(%s{pages="4KiB",%s}) / sum(%s{%s})' % (RESIDENT, SET, RESIDENT, SET), steps(GREEN, 0.02, AMBER, 0.1, RED)),
        stat("Loaded", "percentunit", "Of the set that is being loaded.",
             'sum(engram_server_load_bytes{what="done",%s}) / (sum(engram_server_load_bytes{what="total",%s}) > 0) or vector(1)' % (I, I),
             steps(AMBER, 1, GREEN)),
    ],
    "Sets": [table("Table sets", "Every set that is in memory. Replicas of one name have one id, but while a new one is rolled out.",
                   "engram_server_table_set_info{%s}" % SET, ["endpoint", "service"])],
    "Memory": [
        series("Memory by kind of page", "bytes", "As the kernel counts it.",
               ("sum by (instance, pages) (%s{%s})" % (RESIDENT, SET), "{{instance}} {{pages}}")),
        series("Share on 4 KiB pages", "percentunit", "Every row there costs a walk of the page tables: RUNBOOK, EngramSmallPages.",
               ('sum by (instance, name) (%s{pages="4KiB",%s}) / sum by (instance, name) (%s{%s})' % (RESIDENT, SET, RESIDENT, SET), "{{instance}} {{name}}"),
               thresholds=steps("transparent", 0.1, RED), most=1),
        series("Memory by NUMA node", "bytes", "Of the whole process. Where the nodes differ much, --numa interleave spreads the tables.",
               ("engram_server_numa_bytes{%s}" % I, "{{instance}} node {{node}}")),
        series("Reserved huge pages of the hosts", "bytes", "Whoever uses them. What is free is room for the next set.",
               ("engram_server_host_huge_page_bytes{%s}" % I, "{{instance}} {{state}}")),
    ],
    "Loading and scrubbing": [
        series("Loading", "bytes", "Of the set that is being loaded; nothing between two.", ("engram_server_load_bytes{%s}" % I, "{{instance}} {{what}}")),
        series("Verified in memory per second", "Bps", "By the scrubber, and by `engram admin scrub`.",
               (rate("engram_server_scrub_bytes_total", "instance"), "{{instance}}")),
        series("Pass under way", "percentunit", "How far it is. A pass verifies every table once.",
               ("engram_server_scrub_pass_ratio{%s}" % I, "{{instance}}"), most=1),
        series("Passes since the start", "short", "Times that all tables were verified again.", ("engram_server_scrub_passes_total{%s}" % I, "{{instance}}")),
    ],
}
LEASES = "engram_server_leases"
WAITS = "engram_client_wait_seconds"
CLIENTS = {
    "Now": [
        stat("gRPC streams", "short", "Lookup streams that are open.", "sum(engram_server_grpc_streams{%s})" % I, steps(BLUE)),
        stat("Shared-memory clients", "short", "Mapped ones and rings.", "sum(engram_server_shm_clients{%s})" % I, steps(BLUE)),
        stat("RDMA clients", "short", "Attached over RDMA.", "sum(engram_server_rdma_clients{%s})" % I, steps(BLUE)),
        stat("Clients that no server counts", "short", "They map the tables or read them over RDMA: their lookups are in their own metrics alone.",
             'sum(%s{kind=~"mapped|rdma_read",%s})' % (LEASES, SET), steps(BLUE)),
        stat("Refused in the last hour", "short", "Clients that asked to attach; a client that tries again is counted again.",
             "sum(increase(engram_server_attach_refusals_total{%s}[1h]))" % I, steps(GREEN, 1, AMBER)),
        stat("Certificate expires in", "s", "Of the lookup port. EngramCertificateExpires fires 7 days before.",
             "min(engram_server_tls_certificate_expiry_seconds{%s} - time())" % I, steps(RED, 604800, AMBER, 1209600, GREEN), nothing="no TLS", spark=False),
    ],
    "Servers": [
        series("Leases", "short", "Clients that have a table set, by the way they have it. Those over gRPC hold none.",
               ("sum by (name, kind) (%s{%s})" % (LEASES, SET), "{{name}} {{kind}}")),
        series("Attaches refused per second", "ops", "By the way they came and why. The log and the status page say who.",
               (rate("engram_server_attach_refusals_total", "transport, reason") + " > 0 or vector(0)", "{{transport}} {{reason}}")),
    ],
    "Workers": [
        series("Batches per second", "ops", "As the SDK counts them, over every way.",
               (rate("engram_client_batches_total", "instance, client", WORKER), "{{instance}} {{client}}")),
        series("Rows per second", "ops", "As the SDK counts them, those of mapped clients too.",
               (rate("engram_client_rows_total", "instance, client", WORKER), "{{instance}} {{client}}")),
        series("Waits for rows: p50, p99", "s", "What an engine's step sees.",
               *((quantile(q, WAITS, "instance", WORKER), "{{instance}} p%s" % p) for q, p in ((0.5, "50"), (0.99, "99")))),
        series("Batches by what they ended with", "ops", "OK means that every row is exact.", (rate("engram_client_waits_total", "code", WORKER), "{{code}}")),
    ],
}
PARTS = "sum(rate(engram_client_part_first_attempts_total{%s}%s))" % (OF_CLUSTER, R)
# Workers of one job have one cluster. Where they see it differently the worst counts.
FEWEST = "min by (job, name, partition) (engram_client_partition_up_stores{%s})" % OF_CLUSTER
LEFT_ALONE = 'count by (store) (engram_client_store_trouble{standing!="draining",%s})' % OF_CLUSTER
SENT_AGAIN = ("sum(rate(engram_client_part_resends_total{%s}%s)) + sum(rate(engram_client_part_free_resends_total{%s}%s))"
              % (OF_CLUSTER, R, OF_CLUSTER, R))
UP_STORES = {0: ("no store", RED), 1: ("1 store", AMBER), 2: ("2 stores", GREEN), 3: ("3 stores", GREEN), 4: ("4 stores", GREEN)}
CLUSTER = {
    "Now": [
        stat("Partitions without a store", "short", "Lookups of their rows fail: RUNBOOK, EngramPartitionWithoutStore.",
             "count(%s == 0) or vector(0)" % FEWEST, steps(GREEN, 1, RED)),
        stat("Partitions with one store", "short", "The next loss costs lookups: RUNBOOK, EngramPartitionOneStore.",
             "count(%s == 1) or vector(0)" % FEWEST, steps(GREEN, 1, AMBER)),
        stat("Stores left alone", "short", "By one worker or more: they failed, are damaged, or are not heard.",
             "count(%s) or vector(0)" % LEFT_ALONE, steps(GREEN, 1, AMBER)),
        stat("Failed batches", "percentunit", "Share of batches that end with an error, at workers that have a cluster. EngramBatchesFailing fires above 0.1 %.",
             'sum(rate(engram_client_waits_total{code!~"OK|CANCELLED",%s}%s) and on (job, instance, client) engram_client_partitions{%s} '
             'or 0 * rate(engram_client_waits_total{code="OK",%s}%s)) / (sum(rate(engram_client_waits_total{%s}%s) '
             'and on (job, instance, client) engram_client_partitions{%s}) > 0) or vector(0)'
             % (WORKER, R, OF_CLUSTER, WORKER, R, WORKER, R, OF_CLUSTER), steps(GREEN, 0.0001, AMBER, 0.001, RED)),
        stat("Sent again", "percentunit", "Parts of batches that were asked of a second store since the first one failed, of all parts. Out of the budget 10 % at most.",
             "(%s) / (%s > 0) or vector(0)" % (SENT_AGAIN, PARTS), steps(GREEN, 0.01, AMBER, 0.1, RED)),
        stat("Hedged", "percentunit", "Parts that were asked of a second store while the first one took long. At most 5 % are; EngramHedging fires above 4 %.",
             "sum(rate(engram_client_hedges_total{%s}%s)) / (%s > 0) or vector(0)" % (OF_CLUSTER, R, PARTS), steps(GREEN, 0.02, AMBER, 0.04, RED)),
    ],
    "Partitions": [timeline("Stores of each partition", "As the worker that has the fewest sees it. Partitions are numbered as clients have them: where every store has a "
                            "--partition K/N, by K. A store counts while it is up: not draining, not left alone.", FEWEST, "{{job}} {{name}} {{partition}}", UP_STORES)],
    "Stores": [
        series("Stores by standing", "short", "As workers have them, mean over workers. up: asked. draining: asked where no other can be. ejected, then on_trial: failed a moment "
               "ago. fenced: damaged. unheard: its address is known, and it says nothing.",
               ("avg by (standing) (engram_client_stores{%s})" % OF_CLUSTER, "{{standing}}")),
        series("Workers that leave a store alone", "short", "Stores that are not up, and at how many workers. All workers: the store. One worker: its network.",
               ("count by (store, standing) (engram_client_store_trouble{%s}) or vector(0)" % OF_CLUSTER, "{{store}} {{standing}}")),
        series("Stores ejected per second", "ops", "By workers, since they failed; fenced ones are damaged, for good.",
               ("sum(rate(engram_client_store_ejections_total{%s}%s))" % (OF_CLUSTER, R), "ejected"),
               ("sum(rate(engram_client_store_trials_total{%s}%s))" % (OF_CLUSTER, R), "tried again"),
               ("sum(rate(engram_client_store_fences_total{%s}%s))" % (OF_CLUSTER, R), "fenced")),
        series("Stores by partition", "short", "As they say themselves: engramd that are ready, by what they hold.",
               ("count by (partition) (engram_server_partition_info{%s} and on (job, instance) engram_server_ready{%s} == 1)" % (I, I), "{{partition}}")),
    ],
    "Parts of batches": [
        series("Sent again per second", "ops", "By reason. broken: the connection (the first time is free). silent: nothing for 100 ms. unavailable: it cannot. busy: it has no room. "
               "not_held: its rows are others now. damaged: DATA_LOSS.",
               (rate("engram_client_part_resends_total", "reason", OF_CLUSTER), "{{reason}}"),
               ("sum(rate(engram_client_part_free_resends_total{%s}%s))" % (OF_CLUSTER, R), "broken, free")),
        series("Not sent again per second", "ops", "Since the retry budget was spent, by reason: RUNBOOK, EngramResendsRefused.",
               (rate("engram_client_part_resends_refused_total", "reason", OF_CLUSTER), "{{reason}}")),
        series("Hedges per second", "ops", "Asked of a second store, and those that it answered first.",
               ("sum(rate(engram_client_hedges_total{%s}%s))" % (OF_CLUSTER, R), "hedges"),
               ("sum(rate(engram_client_hedges_won_total{%s}%s))" % (OF_CLUSTER, R), "answered first")),
        series("Waits for rows: p50, p99", "s", "What an engine's step sees, whatever was sent again.",
               *((quantile(q, WAITS, "instance", WORKER), "{{instance}} p%s" % p) for q, p in ((0.5, "50"), (0.99, "99")))),
    ],
    "Where stores are": [
        series("Source of addresses answers", "short", "1: etcd, DNS or the list answers. 0: those that are known are kept, and no new store is found.",
               ("min by (instance) (engram_client_finds_addresses{%s})" % OF_CLUSTER, "{{instance}}"), most=1),
        series("Registered in etcd", "short", "Of stores that register: 1 while they are in etcd, as far as they know.",
               ("engram_server_registered{%s}" % I, "{{instance}}"), most=1),
        series("Publications", "short", "The number of the publication that each store serves. Replicas of one name have the same, but while one is rolled out.",
               ("engram_server_table_set_generation{%s}" % SET, "{{instance}} {{name}}")),
        series("Maps made per second", "ops", "Of what stores hold; many mean that stores come and go.",
               ("sum by (instance) (rate(engram_client_cluster_maps_total{%s}%s))" % (OF_CLUSTER, R), "{{instance}}")),
    ],
}
PROCESS = {
    "Now": [
        stat("Processor", "short", "Cores that are busy, of all that are selected.",
             "sum(rate(process_cpu_seconds_total{%s}%s)%s)" % (I, R, OURS), steps(BLUE)),
        stat("Resident memory", "bytes", "Reserved huge pages are not part of it.", "sum(process_resident_memory_bytes{%s}%s)" % (I, OURS), steps(BLUE)),
        stat("Descriptors used", "percentunit", "Of the limit, the fullest. Connections are turned away at the limit.",
             "max(process_open_fds{%s} / process_max_fds%s)" % (I, OURS), steps(GREEN, 0.7, AMBER, 0.9, RED)),
        stat("Shortest uptime", "s", "What was started last.", "time() - max(engram_server_start_time_seconds{%s})" % I, steps(AMBER, 600, GREEN), spark=False),
        stat("Versions", "short", "How many engramd have which version. More than one is a roll-out.", "count by (version) (engram_server_build_info{%s})" % I,
             steps(BLUE), legend="{{version}}", spark=False),
        stat("Free huge pages", "bytes", "Of all hosts together.", 'sum(engram_server_host_huge_page_bytes{state="free",%s})' % I, steps(BLUE)),
    ],
    "Process": [
        series("Processor", "short", "Cores that are busy.", ("sum by (instance) (rate(process_cpu_seconds_total{%s}%s)%s)" % (I, R, OURS), "{{instance}}")),
        series("Resident memory", "bytes", "Reserved huge pages are not part of it; tables on them are on the dashboard \"engram: tables\".",
               ("process_resident_memory_bytes{%s}%s" % (I, OURS), "{{instance}}")),
        series("Open descriptors", "short", "Connections, leases and files.", ("process_open_fds{%s}%s" % (I, OURS), "{{instance}}")),
        series("Threads", "short", "Lookup threads, rings, and what serves beside them.", ("process_threads{%s}%s" % (I, OURS), "{{instance}}")),
    ],
}
DASHBOARDS = {
    "overview": ("engram: overview", OVERVIEW),
    "latency": ("engram: latency", LATENCY),
    "tables": ("engram: tables", TABLES),
    "clients": ("engram: clients", CLIENTS),
    "cluster": ("engram: cluster", CLUSTER),
    "process": ("engram: process", PROCESS),
}


def variable(name, label, query):
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "includeAll": True, "multi": True, "allValue": ".*",
            "query": {"query": query, "refId": name}, "refresh": 2, "sort": 1, "current": {"text": "All", "value": "$__all"}}


VARIABLES = [
    {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
    variable("job", "Job", "label_values(engram_server_build_info, job)"),
    variable("instance", "Instance", 'label_values(engram_server_build_info{job=~"$job"}, instance)'),
    variable("set", "Table set", 'label_values(engram_server_table_set_info{job=~"$job",instance=~"$instance"}, name)'),
    variable("worker", "Worker", "label_values(engram_client_batches_total, instance)"),
]
ANNOTATIONS = [{"name": "Alerts", "datasource": SOURCE, "enable": True, "iconColor": RED, "step": "60s",
                "expr": 'ALERTS{alertname=~"Engram.+",alertstate="firing"}', "titleFormat": "{{alertname}}", "textFormat": "{{instance}} {{job}} {{name}}"}]
LINKS = [
    {"type": "dashboards", "title": "engram", "tags": ["engram"], "asDropdown": True, "includeVars": True, "keepTime": True},
]


def laid_out(rows):
    """The panels with their places: each row has a head, and panels from left to right as they fit."""
    y = 0
    for title, panels in rows.items():
        yield {"type": "row", "title": title, "collapsed": False, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}, "panels": []}
        y, x = y + 1, 0
        for one in panels:
            place = one["gridPos"]
            if x + place["w"] > 24:
                x, y = 0, y + place["h"]
            yield {**one, "gridPos": {"x": x, "y": y, **place}}
            x += place["w"]
        y += panels[-1]["gridPos"]["h"]


def dashboard(name, title, rows, runbook):
    """`runbook`: its address, or "". The chart adds the same link (monitoring.runbookBaseUrl)."""
    link = [{"type": "link", "title": "Runbook", "url": runbook, "icon": "doc", "targetBlank": True}] if runbook else []
    return {
        "uid": f"engram-{name}", "title": title, "description": "What alerts mean and what to do: deploy/RUNBOOK.md of engram.", "tags": ["engram"], "schemaVersion": 38, "version": 1, "editable": True,
        "refresh": "10s", "time": {"from": "now-1h", "to": "now"}, "graphTooltip": 1,
        "templating": {"list": VARIABLES}, "annotations": {"list": ANNOTATIONS}, "links": LINKS + link,
        "panels": [{"id": i + 1, **one} for i, one in enumerate(laid_out(rows))],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runbook-base-url", default="", metavar="URL", help="where you publish deploy/RUNBOOK.md: dashboards then link to it")
    parser.add_argument("directory", nargs="?", default=os.path.dirname(os.path.abspath(__file__)), metavar="DIRECTORY")
    given = parser.parse_args()
    for name, (title, rows) in DASHBOARDS.items():
        with open(os.path.join(given.directory, f"{name}.json"), "w", encoding="utf-8") as file:
            json.dump(dashboard(name, title, rows, given.runbook_base_url), file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()

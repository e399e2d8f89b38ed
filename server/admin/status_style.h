// How the status page looks, and how it keeps itself up to date. Constants.
#pragma once

namespace engram {

inline constexpr char kStatusStyle[] = R"(
:root{color-scheme:light dark;--ink:#1c2430;--dim:#5b6678;--line:#e3e7ee;--card:#fff;--page:#f5f7fa;--blue:#2563eb;--orange:#c2410c;--red:#dc2626;--green:#15803d;--amber:#b45309;--track:#e8ecf2}
@media (prefers-color-scheme:dark){:root{--ink:#e6eaf0;--dim:#98a2b3;--line:#2b3441;--card:#19202a;--page:#11161d;--blue:#60a5fa;--orange:#fb923c;--red:#b91c1c;--green:#15803d;--amber:#b45309;--track:#2b3441}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.45 system-ui,sans-serif;overflow-wrap:anywhere}
main,#stale{max-width:1120px;margin:0 auto;padding:16px}
#stale{display:none;padding-bottom:0;color:var(--red);font-weight:600}.stale #stale{display:block}.stale main{opacity:.55}
header{display:flex;flex-wrap:wrap;align-items:center;gap:6px 14px;margin-bottom:14px}
header p{margin:0;flex-basis:100%}
h1{font-size:22px;margin:0}h2{font-size:15px;margin:0 0 8px}
a{color:var(--blue)}
.state,.tag{display:inline-block;border-radius:99px;color:#fff;font-weight:600;background:var(--dim)}
.state{padding:3px 12px}.tag{padding:1px 9px;font-size:12px;margin-right:8px}
.good{background:var(--green)}.bad{background:var(--red)}.wait{background:var(--amber)}
.dim{color:var(--dim)}.small{font-size:13px}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px;margin-bottom:14px;min-width:0}
.card.why{border-left:5px solid var(--red)}.card.why.slow{border-left-color:var(--amber)}
.grid{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));margin-bottom:14px}
.grid .card{margin:0}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:13px;margin-bottom:8px}
.legend b{font-size:17px;font-variant-numeric:tabular-nums}
i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px;background:var(--dim)}
i.blue{background:var(--blue)}i.orange{background:var(--orange)}i.green{background:var(--green)}
.chart{display:grid;grid-template-columns:auto minmax(0,1fr);gap:4px 8px;font-size:12px;color:var(--dim);font-variant-numeric:tabular-nums}
.y{display:flex;flex-direction:column;justify-content:space-between;text-align:right;min-width:48px;line-height:1}
.x{grid-column:2;display:flex;justify-content:space-between}
svg{display:block;width:100%;height:96px;overflow:visible}
path{fill:none;vector-effect:non-scaling-stroke;stroke-width:1.8;stroke-linecap:round;stroke-linejoin:round}
.axis{stroke:var(--line);stroke-width:1}.line.blue{stroke:var(--blue)}.line.orange{stroke:var(--orange)}
.bar{display:flex;height:10px;border-radius:5px;overflow:hidden;background:var(--track);margin:8px 0}
.bar span{background:var(--blue)}.bar .green{background:var(--green)}.bar .orange{background:var(--orange)}
.item{border-top:1px solid var(--line);padding:10px 0}.item:first-of-type{border-top:0;padding-top:0}.item:last-child{padding-bottom:0}
code{font:13px/1.4 ui-monospace,monospace}
dl{display:grid;grid-template-columns:auto minmax(0,1fr);gap:3px 14px;margin:0}dd{margin:0;text-align:right;font-variant-numeric:tabular-nums}
summary{cursor:pointer;color:var(--dim);font-size:13px;margin-top:6px}
table{width:100%;border-collapse:collapse;font-size:13px}th{text-align:left;color:var(--dim);font-weight:500}
th,td{padding:5px 12px 5px 0;vertical-align:top;border-top:1px solid var(--line)}tr:first-child th{border-top:0}
/* Only what it was told may be cut inside of a word. */
td,th{overflow-wrap:break-word}td:last-child{overflow-wrap:anywhere}.flag{white-space:nowrap}
td.n{white-space:nowrap;font-variant-numeric:tabular-nums}
@media (max-width:960px){main{padding:12px}table,tbody,tr,td{display:block}tr:first-child{display:none}tr{border-top:1px solid var(--line);padding:6px 0}td{overflow-wrap:anywhere}td{border:0;padding:1px 0}}
)";

// The page's own contents are replaced, so that where it was scrolled to, and what was opened,
// stays. Nothing is asked for while nobody looks, and nothing replaced while text is selected.
inline constexpr char kStatusPageScript[] = R"js("use strict";
const refresh = async () => {
  if (document.hidden || !getSelection().isCollapsed) return;
  try {
    const answer = await fetch(location.href, {cache: "no-store"});
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const one of document.querySelectorAll("details[open]")) {
      const same = page.getElementById(one.id);
      if (same) same.open = true;
    }
    document.title = page.title;
    document.querySelector("main").replaceWith(page.querySelector("main"));
    document.body.classList.remove("stale");
  } catch {
    document.body.classList.add("stale");
  }
};
setInterval(refresh, 10000);
document.addEventListener("visibilitychange", refresh);
)js";

}  // namespace engram

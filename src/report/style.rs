//! The page's looks and its few lines of script: nothing is fetched from anywhere.

/// The style sheet: light and dark, one column on a phone, fit to be printed.
pub(super) const CSS: &str = "
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1a2230;--soft:#59657a;--line:#dde2ea;--caller:#0b7a75;
--agent:#5b4bc4;--hot:#c2362b;--caller-bg:#d9efed;--agent-bg:#e6e2fa;--w1:#8792a8;--w2:#0b7a75;--w3:#b7791f;--w4:#5b4bc4;--w5:#c2362b}
@media(prefers-color-scheme:dark){:root{--bg:#11151c;--card:#1a202a;--ink:#e6eaf1;--soft:#9aa6ba;--line:#2c3543;--caller:#4cc3bb;
--agent:#a99bff;--hot:#ff7d70;--caller-bg:#143835;--agent-bg:#2a2650;--w1:#66728a;--w2:#4cc3bb;--w3:#e0a94a;--w4:#a99bff;--w5:#ff7d70}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:24px 16px 64px}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:36px 0 12px}
p.sub{color:var(--soft);margin:0;overflow-wrap:anywhere}
.chip{display:inline-block;padding:1px 10px;border-radius:99px;font-size:.8rem;font-weight:600;border:1px solid currentColor;vertical-align:middle}
.ok{color:var(--caller)}.bad{color:var(--hot)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-top:20px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}
.card b{display:block;font-size:1.45rem;line-height:1.2;font-variant-numeric:tabular-nums}
.card span{color:var(--soft);font-size:.85rem}
audio{width:100%;margin:4px 0 10px}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:10px}
.scroll:focus-visible,button:focus-visible{outline:3px solid var(--agent);outline-offset:2px}
svg{display:block}
svg text{fill:var(--ink);font:12px system-ui,sans-serif;paint-order:stroke;stroke:var(--card);stroke-width:3px}
svg .soft{fill:var(--soft)}
.wave-caller{stroke:var(--caller)}.wave-agent{stroke:var(--agent)}
.turn-caller{fill:var(--caller-bg)}.turn-agent{fill:var(--agent-bg)}
.grid{stroke:var(--line)}.cut{stroke:var(--hot)}svg text.cut{fill:var(--hot);font-weight:600;stroke:var(--card)}
.gap{stroke:var(--ink);stroke-width:1.5}.head{stroke:var(--hot);stroke-width:2}
.lanes{display:flex;gap:18px;flex-wrap:wrap;color:var(--soft);font-size:.85rem;margin:8px 2px 0}
.lanes i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px;vertical-align:-1px}
ol.talk{list-style:none;margin:0;padding:0;display:grid;gap:8px}
ol.talk li{background:var(--card);border:1px solid var(--line);border-left:5px solid;border-radius:8px;padding:8px 12px}
li.caller{border-left-color:var(--caller)!important}li.agent{border-left-color:var(--agent)!important}
.meta{display:flex;flex-wrap:wrap;gap:4px 12px;align-items:baseline;color:var(--soft);font-size:.85rem}
.meta strong{color:var(--ink)}
.said{margin:2px 0 0;overflow-wrap:anywhere}
button{font:inherit;font-variant-numeric:tabular-nums;color:inherit;background:none;border:1px solid var(--line);border-radius:6px;padding:1px 8px;cursor:pointer}
.bar{display:flex;height:10px;border-radius:5px;overflow:hidden;margin-top:6px;background:var(--line)}
.bar i{display:block}.w1{background:var(--w1)}.w2{background:var(--w2)}.w3{background:var(--w3)}.w4{background:var(--w4)}.w5{background:var(--w5)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92rem}
caption{text-align:left;color:var(--soft);padding:8px 12px;font-size:.85rem}
th,td{padding:6px 12px;text-align:right;border-top:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left;white-space:normal}
thead th{color:var(--soft);font-weight:600}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 16px;margin:0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
footer{margin-top:40px;color:var(--soft);font-size:.85rem}
@media(max-width:600px){th,td{padding:6px 8px}}
@media print{body{background:#fff}.scroll{overflow:visible}audio{display:none}}
";

/// Joins the player, the timeline and the turns' buttons. `SCALE` is put before it: pixels a second.
pub(super) const SCRIPT: &str = "
const audio=document.querySelector('audio'),map=document.getElementById('map'),head=document.getElementById('head'),box=map&&map.parentElement;
const show=()=>{if(!map)return;const x=audio.currentTime*SCALE;head.setAttribute('transform','translate('+x+')');
if(!audio.paused&&(x<box.scrollLeft||x>box.scrollLeft+box.clientWidth-60))box.scrollLeft=x-60;};
const tick=()=>{show();if(!audio.paused)requestAnimationFrame(tick);};
audio.addEventListener('play',tick);audio.addEventListener('seeked',show);
if(map)map.addEventListener('click',e=>{audio.currentTime=(e.clientX-map.getBoundingClientRect().left)/SCALE;});
document.querySelectorAll('button[data-at]').forEach(b=>b.addEventListener('click',()=>{audio.currentTime=b.dataset.at;audio.play();}));
";

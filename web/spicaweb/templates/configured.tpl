% rebase('layout.tpl')
<p class="trail"><a href="{{visit.link('/processes')}}">Processes</a> › <a href="{{visit.link(run_path)}}">{{row.id}} {{row.name}}</a> › configuration</p>
<h1>{{setup.application}}, as run {{capsule.number}} used it</h1>
<p>{{setup.path}}, version {{setup.version}}</p>
<div class="scroll tall" tabindex="0" role="region" aria-label="Keywords">
<table class="dense">
<thead><tr><th>Keyword</th><th>Value</th><th>Set by</th></tr></thead>
<tbody>
% for keyword in setup.keywords:
<tr><td><code>{{keyword.name}}</code></td><td>{{keyword.value or '(empty)'}}</td><td class="{{'soft' if keyword.level.startswith('the tool') else ''}}">{{keyword.level}}</td></tr>
% end
</tbody></table></div>
% for name, text in files:
<h2>{{name}}</h2>
<pre class="log" tabindex="0">{{text}}</pre>
% end

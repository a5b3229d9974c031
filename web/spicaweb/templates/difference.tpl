% rebase('layout.tpl')
% words = ['%s, process %d, run %d' % (side[0].name, side[0].id, side[1].number) for side in (one, other)]
<h1>Difference of two runs</h1>
<dl class="facts">
  % for letter, side, each in zip('AB', (one, other), words):
  <dt>{{letter}}</dt><dd><a href="{{visit.link('/process/%d/run/%d' % (side[0].id, side[1].number))}}">{{each}}</a></dd>
  % end
</dl>
% if found.is_none:
<p class="done">They do not differ in rules, configurations, exposures, versions, figures or products.</p>
% end
% for section in found.sections:
% if section.lines:
<h2>{{section.title}}</h2>
<div class="scroll" tabindex="0" role="region" aria-label="{{section.title}}">
<table class="dense">
<thead><tr><th><span class="hidden">What</span></th><th>A</th><th>B</th><th><span class="hidden">Change</span></th></tr></thead>
<tbody>
% for line in section.lines:
<tr><td>{{line.what}}</td><td>{{line.one}}</td><td>{{line.other}}</td><td>{{line.change}}</td></tr>
% end
</tbody></table></div>
% end
% end
% for heading, lines in (('Rules', found.rules), ('Job file', found.job)):
% if lines:
<h2>{{heading}}</h2>
<pre class="changes" tabindex="0">\\
% for line in lines:
<span class="{{'plus' if line.startswith('+') else 'minus' if line.startswith('-') else 'soft'}}">{{line}}</span>
% end
</pre>
% end
% end
% if found.same:
<p class="soft">The same on both sides: {{found.same}}.</p>
% end

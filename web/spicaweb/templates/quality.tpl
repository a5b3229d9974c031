% rebase('layout.tpl')
<p class="trail"><a href="{{visit.link('/processes')}}">Processes</a> › <a href="{{visit.link(run_path)}}">{{row.id}} {{row.name}}</a> › quality of {{'a stack' if report.kind == 'stack' else 'an exposure'}}</p>
<div class="head"><h1>{{stem}} <span class="grade grade-{{report.grade.lower()}} proposed">{{report.grade}}</span></h1>
<p class="soft">{{' '.join(filter(None, [report.object, report.instrument, report.filter]))}}</p></div>
% if report.problem:
<p class="note">{{report.problem}}</p>
% end
<div class="look">
<section class="seen first" aria-label="The picture">
% include('quality_pictures.tpl', visit=visit, shown=shown, here=here, keys=[key for key in shown.pictures if key == 'preview'])
% if not shown.pictures:
<p class="soft">There are no pictures.</p>
% end
</section>
<section class="judged" aria-label="Figures and grade">
% include('quality_figures.tpl', shown=shown)
% include('quality_reasons.tpl', report=report)
% for note in report.notes:
<p class="soft">{{note}}</p>
% end
% if report.tools:
<p class="soft small">{{', '.join('%s %s' % (tool.name, tool.version) for tool in report.tools)}}; thresholds {{report.thresholds}}</p>
% end
</section>
% if any(key != 'preview' for key in shown.pictures):
<section class="seen" aria-label="Plots">
% include('quality_pictures.tpl', visit=visit, shown=shown, here=here, keys=[key for key in shown.pictures if key != 'preview'])
</section>
% end
</div>
% if origins:
<h2>Exposures of the stack</h2>
<div class="scroll tall" tabindex="0" role="region" aria-label="Exposures of the stack">
<table class="dense"><thead><tr>
% for cell in origins[0]:
<th>{{cell}}</th>
% end
</tr></thead><tbody>
% for line in origins[1:]:
<tr>
% for cell in line:
<td>{{cell}}</td>
% end
</tr>
% end
</tbody></table></div>
% end
<div class="head"><h2>All figures</h2>
<p>{{!' · '.join('<a href="%s">%s</a>' % (visit.link(path), words) for words, path in files)}}</p></div>
% include('quality_details.tpl', shown=shown)

<div class="figures many"><dl>
% for figure, value in shown.rest:
<div><dt title="{{figure.help}}">{{figure.name.replace('_', ' ')}}</dt><dd>{{value}}{{!' <span class="unit">%s</span>' % figure.unit if figure.unit else ''}}</dd></div>
% end
</dl></div>
% ccds = shown.report.ccds
% if len(ccds) > 1 or (ccds and ccds[0].problem):
<h2>CCDs</h2>
<div class="scroll tall" tabindex="0" role="region" aria-label="Figures of the CCDs">
<table class="dense numbers"><thead><tr><th>CCD</th>
% for figure in shown.columns:
<th class="number" title="{{figure.help}}">{{figure.name.replace('_', ' ')}}{{!' <span class="unit">%s</span>' % figure.unit if figure.unit else ''}}</th>
% end
% if any(ccd.problem for ccd in ccds):
<th>What is wrong</th>
% end
</tr></thead><tbody>
% for ccd in ccds:
<tr><td>{{ccd.name or ccd.hdu}}</td>
% for figure in shown.columns:
<td class="number">{{shown.in_words(ccd.figures.get(figure.name))}}</td>
% end
% if any(ccd.problem for ccd in ccds):
<td class="why">{{ccd.problem}}</td>
% end
</tr>
% end
</tbody></table></div>
% end

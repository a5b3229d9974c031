% if shown.first:
<div class="figures one"><dl>
% for figure, value in shown.first:
<div><dt title="{{figure.help}}">{{figure.name.replace('_', ' ')}}</dt><dd>{{value}}{{!' <span class="unit">%s</span>' % figure.unit if figure.unit else ''}}</dd></div>
% end
</dl></div>
% end

% rebase('layout.tpl')
% from spicad.report import size
% table = shown.table
<p class="trail"><a href="{{visit.link('/processes')}}">Processes</a> › <a href="{{visit.link(run_path)}}">{{row.id}} {{row.name}}</a> › product {{product.number}}</p>
<h1>{{product.name}}</h1>
<p>{{'{:,}'.format(table.rows)}} rows in {{table.words}}, {{len(shown.columns)}} columns, {{size(product.bytes)}}. <a href="{{visit.link('%s/product/%d/file' % (run_path, product.number))}}">Fetch it</a></p>
% if len(tables) > 1:
<p class="choices">
  % for each in tables:
  <a href="{{link(table=each.number, page='')}}"{{!' aria-current="true"' if each.number == table.number else ''}}>{{each.words}} ({{each.rows}})</a>
  % end
</p>
% end
<h2 id="plot">Plot</h2>
<form class="filter" method="get" action="{{visit.link(here)}}#plot">
  <input type="hidden" name="table" value="{{table.number}}">
  <input type="hidden" name="order" value="{{shown.order}}">
  <input type="hidden" name="direction" value="{{'down' if shown.is_downward else ''}}">
  % for axis, words, usual in (('x', 'Across', 'X_IMAGE'), ('y', 'Up', 'Y_IMAGE')):
  <p><label for="{{axis}}">{{words}}</label>
  <select id="{{axis}}" name="{{axis}}">
    % for name in table.plottable:
    <option{{!' selected' if name == (wish[axis] or usual) else ''}}>{{name}}</option>
    % end
  </select>
  <label class="choice small"><input type="checkbox" name="{{axis}}log" value="1"{{!' checked' if wish[axis + 'log'] else ''}}> logarithmic</label></p>
  % end
  <p><button class="quiet">Plot</button></p>
</form>
% if plot:
{{!plot}}
% elif wish['x'] and wish['y']:
<p class="note">No row has a value of both that can stand on these axes.</p>
% end
<h2 id="rows">Rows</h2>
<div class="scroll tall" tabindex="0" role="region" aria-label="Rows of the catalogue">
<table class="dense numbers">
<thead><tr><th class="number">Row</th>
% for name in shown.columns:
% is_here = name == shown.order
<th{{!' aria-sort="%s"' % ('descending' if shown.is_downward else 'ascending') if is_here else ''}}>\\
% if name in table.plottable:
<a href="{{link(order=name, direction='' if not is_here or shown.is_downward else 'down', page='')}}#rows" title="{{table.help(name)}}">{{name}}</a>\\
% else:
{{name}}\\
% end
% if table.unit(name):
 <span class="unit">{{table.unit(name)}}</span>\\
% end
</th>
% end
</tr></thead>
<tbody>
% for number, cells in shown.rows:
<tr><td class="number soft">{{number}}</td>
% for cell in cells:
<td>{{cell}}</td>\\
% end
</tr>
% end
</tbody></table>
</div>
<p class="pages">Page {{shown.page}} of {{shown.pages}}
  % if shown.page > 1:
  <a rel="prev" href="{{link(page=shown.page - 1)}}#rows">back</a>
  % end
  % if shown.page < shown.pages:
  <a rel="next" href="{{link(page=shown.page + 1)}}#rows">on</a>
  % end
</p>

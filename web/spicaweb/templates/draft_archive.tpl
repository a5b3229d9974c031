% rebase('layout.tpl')
% include('draft_steps.tpl', visit=visit, recipe=recipe, steps=steps, kept=kept, this=this)
% here = '/draft/%d/archive' % kept.id
<div class="head"><h1>From the archive</h1>
<p class="basket">Basket: <strong>{{len(recipe.exposures)}}</strong> exposures, <strong>{{len(recipe.calibration)}}</strong> in the calibration set. <a href="{{visit.link('/draft/%d/data' % kept.id)}}">Look at them, go on</a></p></div>
<form class="search" method="get" action="{{visit.link(here)}}">
  <p class="wide-field"><label for="place">Place <span class="hint">degrees, sexagesimal, or an object of the archive</span></label><input id="place" name="place" value="{{question['place']}}" spellcheck="false"></p>
  <p><label for="radius">Within <span class="hint">1.5, 30', 20"</span></label><input id="radius" name="radius" value="{{question['radius']}}"></p>
  % for name, words in (('object', 'Object'), ('filter', 'Filter'), ('instrument', 'Instrument'), ('runid', 'Run')):
  <p><label for="{{name}}">{{words}} <span class="hint">* for any letters</span></label><input id="{{name}}" name="{{name}}" value="{{question[name]}}" spellcheck="false"></p>
  % end
  <p><label for="after">From <span class="hint">2004-03-21</span></label><input id="after" name="after" value="{{question['after']}}"></p>
  <p><label for="before">Until <span class="hint">2004-03-22</span></label><input id="before" name="before" value="{{question['before']}}"></p>
  <p><label for="exptime_from">Exposed at least <span class="hint">s</span></label><input id="exptime_from" name="exptime_from" inputmode="decimal" value="{{question['exptime_from']}}"></p>
  <p><label for="seeing_to">Seeing at most <span class="hint">arcsec</span></label><input id="seeing_to" name="seeing_to" inputmode="decimal" value="{{question['seeing_to']}}"></p>
  <p><label for="airmass_to">Airmass at most <span class="hint">&nbsp;</span></label><input id="airmass_to" name="airmass_to" inputmode="decimal" value="{{question['airmass_to']}}"></p>
  <p><label for="grade">Grade</label><label class="choice hint"><input type="checkbox" name="ungraded" value="1"{{!' checked' if question['ungraded'] else ''}}> also ungraded</label><select id="grade" name="grade"><option value="">any</option>
  % for each in 'ABC':
  <option value="{{each}}"{{!' selected' if question['grade'] == each else ''}}>{{each}} or better</option>
  % end
  </select></p>
  <p><label for="name">File name <span class="hint">* for any letters</span></label><input id="name" name="name" value="{{question['name']}}" spellcheck="false"></p>
  <p><label for="tag">Tag <span class="hint">all of them</span></label><input id="tag" name="tag" value="{{question['tag']}}" spellcheck="false"></p>
  % if saved:
  <p><label for="selection">Saved selection <span class="hint">&nbsp;</span></label><select id="selection" name="selection"><option value="">any</option>
  % for each in saved:
  <option value="{{each.name}}"{{!' selected' if question['selection'] == each.name else ''}}>{{each.name}} ({{each.count}})</option>
  % end
  </select></p>
  % end
  <p class="wide-field"><label for="where">Where <span class="hint">such as: seeing &lt; 0.9 and t_exptime &gt;= 60</span></label><input id="where" name="where" value="{{question['where']}}" spellcheck="false"></p>
  <p><button>Search</button></p>
</form>
% if page is not None:
<h2 id="found">{{'{:,}'.format(page.total)}} exposures found</h2>
% if page.total:
<div class="found">
<div class="facets">
% for name, counts in facets.items():
% if len(counts) > 1 or question[name]:
<h3>{{name}}</h3>
<ul class="plain small">
  % for value, count in list(counts.items())[:12]:
  <li>\\
% if value:
<a href="{{visit.link(here, **question.fields(**{name: value, 'page': ''}))}}#found">{{value}}</a>\\
% else:
<span class="soft">none</span>\\
% end
 <span class="soft">{{count}}</span></li>
  % end
  % if len(counts) > 12:
  <li class="soft">and {{len(counts) - 12}} more</li>
  % end
  % if question[name]:
  <li><a href="{{visit.link(here, **question.fields(**{name: '', 'page': ''}))}}#found">any {{name}}</a></li>
  % end
</ul>
% end
% end
</div>
<img class="sky" src="{{visit.link(here + '/sky.svg', **question.fields(page=''))}}" alt="Map of the sky with the footprints of {{min(page.total, most_on_map)}} exposures">
</div>
<form method="post" action="{{visit.link(here, **question.fields())}}">
<input type="hidden" name="csrf" value="{{visit.csrf}}">
<div class="row below">
  <p class="row">
  % for into, words in sets.items():
  <button name="into" value="{{into}}" class="{{'' if into == 'exposures' else 'quiet'}}">Add to the {{words}}</button>
  % end
  </p>
  <p><label class="choice"><input type="checkbox" name="all" value="yes"> all {{page.total}} that are found, not only those ticked</label></p>
</div>
<div class="scroll tall" tabindex="0" role="region" aria-label="Exposures found">
<table class="dense"><thead><tr><th><span class="hidden">Choose</span></th>
% for sort, words in (('name', 'Name'), ('instrument', 'Instrument'), ('filter', 'Filter'), ('object', 'Object'), ('runid', 'Run'), ('mjd', 'Start'), ('t_exptime', 's'), ('airmass', 'Airmass'), ('seeing', 'Seeing'), ('grade', 'Grade')):
<th><a href="{{visit.link(here, **question.fields(sort='-' + sort if question.sort == sort else sort, page=''))}}#found">{{words}}</a></th>
% end
<th>In the basket</th></tr></thead><tbody>
% for row in page.rows:
% into = in_basket.get(row['name']) or in_basket.get(row['path'], '')
<tr><td><input type="checkbox" name="exposure" value="{{row['id']}}" aria-label="Choose {{row['name']}}"{{!' checked' if not into else ''}}></td>
<td><a href="{{visit.link('/exposure/%d' % row['id'])}}">{{row['name']}}</a></td><td>{{row['instrument_name']}}</td><td>{{row['filter']}}</td><td>{{row['target_name']}}</td><td>{{row['runid']}}</td>
<td class="time">{{when((row['t_min'] - 40587) * 86400) if row['t_min'] else ''}}</td><td class="number">{{'%g' % row['t_exptime'] if row['t_exptime'] is not None else ''}}</td><td class="number">{{'%.2f' % row['airmass'] if row['airmass'] is not None else ''}}</td><td class="number">{{'%.2f' % row['seeing'] if row['seeing'] is not None else ''}}</td><td>{{!'<span class="grade grade-%s%s">%s</span>' % (row['grade'].lower(), '' if row['graded_by'] else ' proposed', row['grade']) if row['grade'] in ('A', 'B', 'C', 'D') else ''}}</td><td class="soft">{{sets.get(into, '')}}</td></tr>
% end
</tbody></table></div>
<div class="row below">
  <p><label for="keep">Keep what is chosen as a selection, called</label><input id="keep" name="selection" maxlength="100"></p>
  <p><button class="quiet" name="verb" value="save">Save</button></p>
  <p class="pages">{{(question.page - 1) * per_page + 1}} to {{min(question.page * per_page, page.total)}} of {{page.total}}
  % if question.page > 1:
  <a rel="prev" href="{{visit.link(here, **question.fields(page=question.page - 1))}}#found">back</a>
  % end
  % if question.page * per_page < page.total:
  <a rel="next" href="{{visit.link(here, **question.fields(page=question.page + 1))}}#found">on</a>
  % end
  </p>
</div>
</form>
% end
% end

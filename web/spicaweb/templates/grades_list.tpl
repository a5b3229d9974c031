% rebase('layout.tpl')
% here = '/grades/exposures'
<p class="trail"><a href="{{visit.link('/grades', **fields)}}">Grades</a> · {{' '.join(filter(None, [among.runid, among.filter])) or 'all runs and filters'}}</p>
<div class="head"><h1>{{ {'ungraded': 'What waits for a grade', 'graded': 'What persons have graded', 'all': 'Exposures'}[among.state] }}</h1>
<p class="choices">
% for each, shown in (('ungraded', 'waiting'), ('graded', 'graded'), ('all', 'all')):
<a href="{{visit.link(here, **dict(fields, state=each))}}"{{!' aria-current="true"' if each == among.state else ''}}>{{shown}}</a>
% end
</p></div>
% if rows:
<form method="post" action="{{visit.link(here, sort=sort, **fields)}}">
% include('csrf.tpl')
<div class="scroll" tabindex="0" role="region" aria-label="Exposures">
<table class="dense"><thead><tr><th><span class="hidden">Choose</span></th>
% for column, head in columns:
<th class="{{'' if column in ('name', 'runid', 'filter') else 'number'}}"{{!' aria-sort="%s"' % ('descending' if sort.startswith('-') else 'ascending') if sort.lstrip('-') == column else ''}}><a href="{{visit.link(here, sort='-' + column if sort == column else column, **fields)}}">{{head}}</a></th>
% end
<th><a href="{{visit.link(here, sort='-grade' if sort == 'grade' else 'grade', **fields)}}">Grade</a></th><th>By</th><th>Said</th></tr></thead><tbody>
% for row in rows:
<tr>
<td><input type="checkbox" name="exposure" value="{{row.id}}" aria-label="Choose {{row.name}}"></td>
<td><a href="{{visit.link('/exposure/%d' % row.id, queue='1', **fields)}}">{{row.name}}</a></td><td>{{row.runid}}</td><td>{{row.filter}}</td>
% for column, _ in columns[3:]:
<td class="number">{{in_words(getattr(row, column))}}</td>
% end
<td>{{!'<span class="grade grade-%s%s">%s</span>' % (row.grade.lower(), '' if row.graded_by else ' proposed', row.grade) if row.grade else ''}}</td>
<td>{{row.graded_by or ('proposed' if row.grade else '')}}</td><td class="why">{{said[row.id][:120]}}</td>
</tr>
% end
</tbody></table></div>
<div class="row below">
% if may_grade:
<div class="bulk" role="group" aria-label="Grade those that are ticked">
  <p><label for="comment">Those that are ticked</label><select id="comment" name="comment"><option value="">without a comment</option>
  % for each in comments:
  <option>{{each}}</option>
  % end
  </select></p>
  % for each in grades:
  <p><button name="grade" value="{{each}}" class="grade-{{each.lower()}}">{{each}}</button></p>
  % end
</div>
% end
<p class="pages">{{(this - 1) * 100 + 1}} to {{(this - 1) * 100 + len(rows)}} of {{'{:,}'.format(total)}}
% if this > 1:
<a rel="prev" href="{{visit.link(here, sort=sort, page=this - 1, **fields)}}">back</a>
% end
% if this < pages:
<a rel="next" href="{{visit.link(here, sort=sort, page=this + 1, **fields)}}">on</a>
% end
</p></div>
</form>
% else:
<p class="soft">There is no such exposure{{'' if among.is_judged is False else ' that QualityFITS has seen'}}.</p>
% end

% rebase('layout.tpl')
% if taken is not None:
<p class="done" role="status">{{taken}} grades taken{{', %d were known' % known if known else ''}}.</p>
% end
<div class="head"><h1>Grades</h1>
% if waiting:
<p class="actions"><a class="button quiet" href="{{visit.link('/grades/exposures', **fields)}}">As a list</a> <a class="button" href="{{visit.link('/grades/next', **fields)}}">Grade: {{'{:,}'.format(waiting)}} {{'wait' if among.state == 'ungraded' else 'exposures'}}</a></p>
% end
</div>
<form class="filter" method="get" action="{{visit.link('/grades')}}">
  <p><label for="runid">Run</label><input id="runid" name="runid" value="{{among.runid}}" spellcheck="false"></p>
  <p><label for="filter">Filter</label><input id="filter" name="filter" value="{{among.filter}}" spellcheck="false"></p>
  <p><label for="state">Go through</label><select id="state" name="state">
  % for each, words in (('ungraded', 'what waits for a grade'), ('graded', 'what persons have graded'), ('all', 'all')):
  <option value="{{each}}"{{!' selected' if each == among.state else ''}}>{{words}}</option>
  % end
  </select></p>
  <p><label class="choice"><input type="checkbox" name="unjudged" value="1"{{!'' if among.is_judged else ' checked'}}> also what QualityFITS has not seen</label></p>
  <p><button class="quiet">Show</button></p>
</form>
% if whole.total:
<div class="shares">
{{!pie(whole)}}
<table class="dense legend"><tbody>
% for name, words, count in slices:
% if count:
<tr><td><span class="key {{name}}"></span>{{words}}</td><td class="number">{{'{:,}'.format(count)}}</td><td class="number">{{'%.1f' % (100 * count / whole.total)}} %</td></tr>
% end
% end
<tr><td>All science exposures</td><td class="number">{{'{:,}'.format(whole.total)}}</td><td></td></tr>
</tbody></table>
</div>
<h2>By run and filter</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Grades by run and filter">
<table class="dense counted"><thead>
<tr><td colspan="3"></td><th colspan="{{len(grades)}}" scope="colgroup">By persons</th><th colspan="{{len(grades)}}" scope="colgroup">Proposed</th><td colspan="4"></td></tr>
<tr><th><span class="hidden">Shares</span></th><th>Run</th><th>Filter</th>
% for each in [*grades, *grades]:
<th class="number">{{each}}</th>
% end
<th class="number">None</th><th class="number">All</th><th><span class="hidden">List</span></th><th><span class="hidden">Grade</span></th></tr></thead><tbody>
% for each in tallies:
% some = dict(fields, runid=each.runid, filter=each.filter)
<tr><td>{{!pie(each, True)}}</td><td><a href="{{visit.link('/grades', **some)}}">{{each.runid or '(none)'}}</a></td><td>{{each.filter or '(none)'}}</td>
% for grade in grades:
<td class="number">{{each.graded.get(grade, '')}}</td>
% end
% for grade in grades:
<td class="number soft">{{each.proposed.get(grade, '')}}</td>
% end
<td class="number">{{each.without or ''}}</td><td class="number">{{each.total}}</td>
<td><a href="{{visit.link('/grades/exposures', **dict(some, state='all', unjudged='1'))}}">List<span class="hidden"> {{each.runid}} {{each.filter}}</span></a></td>
<td>\\
% if each.total > sum(each.graded.values()):
<a href="{{visit.link('/grades/next', **some)}}">Grade<span class="hidden"> {{each.runid}} {{each.filter}}</span></a>\\
% end
</td></tr>
% end
</tbody></table></div>
% if more > 0:
<p class="soft">and {{more}} more; name a run.</p>
% end
% else:
<p class="soft">There is no science exposure here yet.</p>
% end
<div class="pair">
<section><h2>Graders</h2>
% if graders:
<table class="dense"><thead><tr><th>Who</th><th class="number">Grades</th><th>Last</th></tr></thead><tbody>
% for who, count, last in graders[:50]:
<tr><td>{{who}}</td><td class="number">{{'{:,}'.format(count)}}</td><td class="time">{{when(last)}}</td></tr>
% end
</tbody></table>
% else:
<p class="soft">Nobody has graded anything yet.</p>
% end
</section>
<section><h2>Lists</h2>
<p>As CSV: <a href="{{visit.link('/grades/list.csv', runid=among.runid, filter=among.filter)}}">the grades that count</a> ·
<a href="{{visit.link('/grades/list.csv', runid=among.runid, filter=among.filter, history=1)}}">all that was ever said</a></p>
% if may_grade:
<form method="post" action="{{visit.link('/grades/list')}}" enctype="multipart/form-data">
  % include('csrf.tpl')
  <p><label for="file">Take a list in <span class="hint">CSV with the columns exposure and grade at least; all of it is taken, or nothing</span></label>
  <input id="file" name="file" type="file" accept=".csv,text/csv"></p>
  <details><summary>or type it</summary>
  <p><label for="text" class="hidden">Lines of a list</label><textarea id="text" name="text" class="code" rows="5" placeholder="exposure,grade,comments,words"></textarea></p></details>
  <p><button class="quiet">Take it</button></p>
</form>
% end
</section>
</div>

% rebase('layout.tpl')
<div class="head">
  <h1>Processes</h1>
  <p><a class="button" href="{{visit.link('/new')}}">New process</a></p>
</div>
% if told:
<p class="done" role="status">{{told}}</p>
% end
% if drafts:
<section class="card drafts">
  <h2>Drafts</h2>
  <ul>
    % for draft in drafts:
    <li><a href="{{visit.link('/draft/%d/check' % draft.id)}}">{{draft.name or 'without a name'}}</a>
      <span class="soft small">PENDING, changed {{when(draft.changed)}}</span></li>
    % end
  </ul>
</section>
% end
<form class="filter" method="get" action="{{visit.link('/processes')}}">
  <p><label for="search">Search</label>
  <input id="search" name="search" type="search" value="{{wish.search}}" placeholder="number, name, owner, reason"></p>
  % if len(viewer.choices) > 1:
  <p><label for="whose">Whose</label>
  <select id="whose" name="whose">
    % for each in viewer.choices:
    <option value="{{each}}"{{!' selected' if each == wish.whose else ''}}>{{ {'mine': 'mine', 'group': 'of my group', 'all': 'everybody’s'}[each] }}</option>
    % end
  </select></p>
  % end
  <p><label for="phase">Phase</label>
  <select id="phase" name="phase">
    % for each in phases:
    <option value="{{each}}"{{!' selected' if each == wish.phase else ''}}>{{each or 'any'}}{{ ' (%d)' % page.counts[each.upper()] if each.upper() in page.counts else ''}}</option>
    % end
  </select></p>
  <p><button class="quiet">Show</button></p>
</form>
% if page.rows:
<form method="post" action="{{visit.link('/processes')}}">
<input type="hidden" name="csrf" value="{{visit.csrf}}">
<input type="hidden" name="whose" value="{{wish.whose}}">
<div class="scroll" tabindex="0" role="region" aria-label="List of processes">
<table class="dense">
<thead><tr>
  <th><span class="hidden">Choose</span></th>
  % for order, words in (('number', 'No.'), ('name', 'Name'), ('owner', 'Owner'), ('phase', 'Phase')):
  <th{{!' aria-sort="%s"' % ('descending' if wish.is_downward else 'ascending') if wish.order == order else ''}}><a href="{{visit.link('/processes')}}{{wish.ordered_by(order)}}">{{words}}</a></th>
  % end
  <th>Steps</th>
  % for order, words in (('submitted', 'Submitted'), ('ended', 'Ended'), ('kept', 'Kept until')):
  <th{{!' aria-sort="%s"' % ('descending' if wish.is_downward else 'ascending') if wish.order == order else ''}}><a href="{{visit.link('/processes')}}{{wish.ordered_by(order)}}">{{words}}</a></th>
  % end
  <th>Why</th>
</tr></thead>
<tbody>
% address = visit.link('/process/')
% for row in page.rows:
<tr>
  <td><input type="checkbox" name="process" value="{{row.id}}" aria-label="Choose process {{row.id}}"></td>
  <td class="number">{{row.id}}</td>
  <td class="title"><a href="{{address}}{{row.id}}">{{row.name}}</a></td>
  <td>{{row.owner}}</td>
  <td><span class="phase {{row.phase.lower()}}">{{row.phase}}</span></td>
  <td class="number">{{row.steps_done}}/{{row.steps_total}}</td>
  <td class="time">{{when(row.submitted)}}</td>
  <td class="time">{{when(row.ended)}}</td>
  <td class="time">{{when(row.expires, False)}}</td>
  <td class="why">{{'' if row.why.startswith('taken from') else row.why[:160]}}</td>
</tr>
% end
</tbody>
</table>
</div>
<div class="row below">
  <p><label for="verb" class="hidden">With those chosen</label>
  <select id="verb" name="verb">
    % for verb, words in bulk.items():
    <option value="{{verb}}">{{words}} those chosen</option>
    % end
  </select></p>
  <p><button class="quiet">Do it</button></p>
  <p class="pages">{{page.first}} to {{page.last}} of {{page.total}}
  % if wish.page > 1:
  <a rel="prev" href="{{visit.link('/processes')}}{{wish.address(page=wish.page - 1)}}">newer</a>
  % end
  % if wish.page < page.pages:
  <a rel="next" href="{{visit.link('/processes')}}{{wish.address(page=wish.page + 1)}}">older</a>
  % end
  </p>
</div>
</form>
% elif wish.search or wish.phase:
<p>There is no such process. <a href="{{visit.link('/processes', whose=wish.whose)}}">Show all</a></p>
% else:
<p>{{'You have no process yet.' if wish.whose == 'mine' else 'There is no process yet.'}}
% if wish.whose == 'mine' and len(viewer.choices) > 1:
<a href="{{visit.link('/processes', whose=viewer.choices[-1])}}">See those of others</a>.
% end
<a href="{{visit.link('/new')}}">Make one</a>, or drop a job file: see spica-job(5).</p>
% end

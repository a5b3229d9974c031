% rebase('layout.tpl')
% from spicad.report import size
<h1>Archive</h1>
<p class="lead">What has landed, and what became of it. Exposures are searched while <a href="{{visit.link('/new')}}">a process is made</a>; here is <a href="{{visit.link('/grades/exposures', state='all', unjudged='1')}}">the list of all, with their grades</a>.</p>
<div id="progress"{{!' data-seconds="8" data-refresh="%s"' % visit.link('/archive', state=state, search=search, page=this) if moving else ''}}>
<p class="sum"><strong>{{'{:,}'.format(seen)}}</strong> seen = <strong>{{'{:,}'.format(counts['registered'])}}</strong> registered + <strong>{{'{:,}'.format(counts['refused'])}}</strong> refused + <strong>{{'{:,}'.format(counts['waiting'])}}</strong> waiting</p>
% if moving:
<h2>On the way</h2>
<ul class="bars moving">
  % for each in moving:
  <li>
    <span class="of">{{each.name}}</span>
    <progress max="{{max(each.bytes, 1)}}" value="{{min(each.bytes_done, max(each.bytes, 1))}}" class="{{'bad' if each.state == 'failed' else ''}}" aria-label="{{each.name}}: {{size(each.bytes_done)}} of {{size(each.bytes)}}"></progress>
    <span class="counts">{{each.state}}, to be {{kinds.get(each.kind, each.kind)}}: {{size(each.bytes_done)}} of {{size(each.bytes)}}{{'; ' + each.why if each.why else ''}}</span>
  </li>
  % end
</ul>
% if more_moving:
<p class="soft">and {{more_moving}} more.</p>
% end
% end
</div>
<h2>Files</h2>
<p class="choices">
  % for each in ('refused', 'waiting', 'registered'):
  <a href="{{visit.link('/archive', state=each, search=search)}}"{{!' aria-current="true"' if each == state else ''}}>{{each}} ({{'{:,}'.format(counts[each])}})</a>
  % end
</p>
<form class="filter" method="get" action="{{visit.link('/archive')}}">
  <input type="hidden" name="state" value="{{state}}">
  <p><label for="search">File name</label>
  <input id="search" name="search" type="search" value="{{search}}" placeholder="or a part of it"></p>
  <p><button class="quiet">Show</button></p>
</form>
% if files:
% reasons = {'refused': 'Why', 'waiting': 'Waits for', 'registered': 'Exposure'}
<div class="scroll" tabindex="0" role="region" aria-label="Files, {{state}}">
<table class="dense">
<thead><tr><th>File</th>
% if is_administrator:
<th>Folder</th>
% end
<th class="number">Size</th><th>{{'Since' if state == 'waiting' else state.capitalize()}}</th><th>{{reasons[state]}}</th></tr></thead>
<tbody>
% for each in files:
<tr><td>{{each.name}}</td>
% if is_administrator:
<td class="small">{{each.path.rpartition('/')[0]}}</td>
% end
<td class="number">{{size(each.bytes)}}</td><td class="time">{{when(each.ended or each.first_seen)}}</td>
% if state == 'registered':
<td class="number">{{!'<a href="%s">%d</a>' % (visit.link('/exposure/%d' % each.exposure), each.exposure) if each.exposure else ''}}</td>
% else:
<td class="why">{{each.why}}</td>
% end
</tr>
% end
</tbody></table></div>
<p class="pages">{{first}} to {{first - 1 + len(files)}} of {{'{:,}'.format(total)}}
% if this > 1:
<a rel="prev" href="{{visit.link('/archive', state=state, search=search, page=this - 1)}}">newer</a>
% end
% if this < pages:
<a rel="next" href="{{visit.link('/archive', state=state, search=search, page=this + 1)}}">older</a>
% end
</p>
% elif search:
<p>There is no such file among them. <a href="{{visit.link('/archive', state=state)}}">Show all</a></p>
% else:
<p class="soft">{{'Nothing was refused.' if state == 'refused' else 'Nothing waits.' if state == 'waiting' else 'Nothing has landed yet.'}}</p>
% end
% if moving:
<script src="{{static(visit, 'refresh.js')}}" defer></script>
% end

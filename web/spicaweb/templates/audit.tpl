% rebase('layout.tpl')
<h1>Audit trail</h1>
<form class="row" method="get" action="{{visit.link('/audit')}}">
  <p><label for="who">User, address or group</label>
  <input id="who" name="who" type="search" value="{{who}}"></p>
  <p><button class="quiet">Show</button></p>
</form>
<div class="scroll" tabindex="0" role="region" aria-label="Audit trail"><table>
  <thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">Did what</th><th scope="col">To</th><th scope="col">Words</th><th scope="col">From</th></tr></thead>
  <tbody>
  % for row in rows:
  <tr>
    <td class="time">{{when(row.time)}}</td><td>{{row.who or '(nobody)'}}</td><td>{{row.verb}}</td><td>{{row.what}}</td><td>{{row.words}}</td><td>{{row.address}}</td>
  </tr>
  % end
  </tbody>
</table></div>
% if not rows:
<p class="soft">Nothing is noted{{' about ' + who if who else ''}}.</p>
% end
% if has_more:
<p><a href="{{visit.link('/audit', who=who, before=rows[-1].id)}}">Older</a></p>
% end

% rebase('layout.tpl')
<h1>Welcome, {{visit.account.full_name}}</h1>
% if waiting:
<p class="note"><a href="{{visit.link('/requests')}}">{{'One request waits' if waiting == 1 else '%d requests wait' % waiting}} for your answer</a></p>
% end
% if visit.actor.group:
<p>What you submit is reduced for the group <a href="{{visit.link('/groups/' + visit.actor.group)}}">{{visit.actor.group}}</a>.</p>
<p><a class="button" href="{{visit.link('/new')}}">New process</a></p>
% else:
<p>You are in no group yet. <a href="{{visit.link('/account')}}">Ask to join one</a> to submit processes.</p>
% end
<h2>Your latest processes</h2>
% if latest:
<div class="scroll" tabindex="0" role="region" aria-label="Your latest processes"><table>
  <thead><tr><th scope="col" class="number">Number</th><th scope="col">Name</th><th scope="col">Phase</th><th scope="col">Submitted</th><th scope="col">Ended</th></tr></thead>
  <tbody>
  % for row in latest:
  <tr>
    <td class="number"><a href="{{visit.link('/process/%d' % row.id)}}">{{row.id}}</a></td>
    <td>{{row.name}}</td><td>{{row.phase}}</td><td class="time">{{when(row.submitted)}}</td><td class="time">{{when(row.ended)}}</td>
  </tr>
  % end
  </tbody>
</table></div>
<p><a href="{{visit.link('/processes')}}">All processes</a></p>
% else:
<p class="soft">None yet.</p>
% end

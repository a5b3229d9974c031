% rebase('layout.tpl')
<h1>Welcome, {{visit.account.full_name}}</h1>
% if visit.actor.group:
<p>What you submit is reduced for the group <a href="{{visit.link('/groups/' + visit.actor.group)}}">{{visit.actor.group}}</a>.</p>
% else:
<p>You are in no group yet. <a href="{{visit.link('/groups')}}">Ask to join one</a> to submit processes.</p>
% end

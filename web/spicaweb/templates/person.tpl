% rebase('layout.tpl')
<h1>{{account.full_name}}</h1>
<dl class="facts">
  <dt>User name</dt><dd>{{account.name}}</dd>
  <dt>Owner of processes as</dt><dd>{{account.owner}}</dd>
  <dt>Institute</dt><dd>{{account.institute or 'not given'}}</dd>
  <dt>Mail address</dt><dd>{{account.mail}}</dd>
  <dt>State</dt><dd>{{account.state}}{{', logged in just now' if is_online else ''}}</dd>
  <dt>Rank</dt><dd>{{person.rank.words}}</dd>
  <dt>Groups</dt><dd>
  % for each in memberships:
  <a href="{{visit.link('/groups/' + each.group)}}">{{each.group}}</a>{{' (asks to join)' if each.state == 'asked' else ' (administrator)' if each.is_administrator else ''}}
  % end
  </dd>
  % if account.purpose:
  <dt>Purpose</dt><dd>{{account.purpose}}</dd>
  % end
  <dt>Since</dt><dd>{{when(account.made)}}</dd>
</dl>
<p><a href="{{visit.link('/audit', who=account.name)}}">What {{account.name}} did, and what was done to {{account.name}}</a></p>
% if may['suspend'] and not is_own and account.state in ('active', 'suspended'):
<h2>{{'Suspend' if account.state == 'active' else 'Restore'}} the account</h2>
<p>{{'Sessions end at once and nobody can log in. Processes go on, all data are kept.' if account.state == 'active' else 'The account can be used again as before.'}}</p>
<form method="post" action="{{visit.link('/accounts/' + account.name)}}">
  % include('csrf.tpl')
  <p><label for="word">A word for the mail <span class="hint">May stay empty.</span></label>
  <textarea id="word" name="word" maxlength="1000"></textarea></p>
  % if account.state == 'active':
  <p><button class="danger" name="verb" value="suspend">Suspend {{account.name}}</button></p>
  % else:
  <p><button name="verb" value="restore">Restore {{account.name}}</button></p>
  % end
</form>
% end
% if may['rank'] and not is_own and account.state == 'active':
<h2>Rank</h2>
<form method="post" action="{{visit.link('/accounts/' + account.name)}}">
  % include('csrf.tpl')
  % if account.rank == 2:
  <p>An Administrator: sees and changes everything on this site.</p>
  <p><button class="danger" name="verb" value="demote">Make {{account.name}} a user</button></p>
  % else:
  <p>An Administrator sees and changes everything on this site.</p>
  <p><button class="danger" name="verb" value="promote">Make {{account.name}} an Administrator</button></p>
  % end
</form>
% end

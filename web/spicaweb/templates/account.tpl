% rebase('layout.tpl')
<h1>Your account</h1>
<dl class="facts">
  <dt>User name</dt><dd>{{account.name}}</dd>
  <dt>Mail address</dt><dd>{{account.mail}}</dd>
  <dt>Rank</dt><dd>{{visit.actor.rank.words}}</dd>
  <dt>Since</dt><dd>{{when(account.made, False)}}</dd>
</dl>

<h2>Disk</h2>
<dl class="facts">
% include('rooms.tpl', rooms=rooms, forecast=0, is_own=True)
</dl>
<p class="soft">Delete results that are not needed any more <a href="{{visit.link('/processes', phase='over')}}">in the list of processes</a>; their recipes stay.</p>

<h2>Details</h2>
<form method="post" action="{{visit.link('/account/details')}}">
  % include('csrf.tpl')
  <p><label for="full_name">Your name</label>
  <input id="full_name" name="full_name" value="{{account.full_name}}" autocomplete="name" maxlength="120" required></p>
  <p><label for="institute">Institute</label>
  <input id="institute" name="institute" value="{{account.institute}}" autocomplete="organization" maxlength="200"></p>
  <p><button>Save</button></p>
</form>

<h2>Groups</h2>
% if memberships:
<div class="scroll" tabindex="0" role="region" aria-label="Groups"><table>
  <thead><tr><th scope="col">Group</th><th scope="col">You are</th><th scope="col">Since</th><th scope="col">New processes</th></tr></thead>
  <tbody>
  % for each in memberships:
  <tr>
    <td><a href="{{visit.link('/groups/' + each.group)}}">{{titles.get(each.group, each.group)}}</a></td>
    <td>{{'waiting for an answer' if each.state == 'asked' else 'administrator' if each.is_administrator else 'member'}}</td>
    <td>{{when(each.since, False)}}</td>
    <td>
    % if each.state == 'member' and each.group == account.group:
      are made for this group
    % elif each.state == 'member':
      <form class="inline" method="post" action="{{visit.link('/account/group')}}">
        % include('csrf.tpl')
        <input type="hidden" name="group" value="{{each.group}}">
        <button class="quiet">Make them for {{titles.get(each.group, each.group)}}</button>
      </form>
    % end
    </td>
  </tr>
  % end
  </tbody>
</table></div>
% else:
<p>You are in no group yet.</p>
% end
% if others:
<h3>Join another group</h3>
<form method="post" action="{{visit.link('/account/join')}}">
  % include('csrf.tpl')
  <p><label for="group">Group</label>
  <select id="group" name="group">
    % for each in others:
    <option value="{{each.name}}">{{each.title}}</option>
    % end
  </select></p>
  <p><label for="purpose">What for</label>
  <textarea id="purpose" name="purpose" maxlength="2000" required></textarea></p>
  <p><button>Ask to join</button></p>
</form>
% end

<h2>Password</h2>
<form class="narrow" method="post" action="{{visit.link('/account/password')}}">
  % include('csrf.tpl')
  <input type="hidden" name="name" value="{{account.name}}" autocomplete="username">
  <p><label for="now">The password that you have now</label>
  <input id="now" name="now" type="password" autocomplete="current-password" required></p>
  <p><label for="password">New password <span class="hint">At least 12 characters. Several words that do not belong together are good, and easy to remember.</span></label>
  <input id="password" name="password" type="password" autocomplete="new-password" minlength="12" required></p>
  <p><label for="again">The same once more</label>
  <input id="again" name="again" type="password" autocomplete="new-password" required></p>
  <p><button>Change the password</button></p>
</form>

<h2>Mail address</h2>
<form class="narrow" method="post" action="{{visit.link('/account/address')}}">
  % include('csrf.tpl')
  <p><label for="mail">New mail address <span class="hint">A link is sent there; the address changes once you follow it.</span></label>
  <input id="mail" name="mail" type="email" autocomplete="email" required></p>
  <p><label for="now2">Your password</label>
  <input id="now2" name="now" type="password" autocomplete="current-password" required></p>
  <p><button>Send the link</button></p>
</form>

<h2>Sessions</h2>
<p>Where you are logged in. A session ends after eight hours without use, and after seven days.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Sessions"><table>
  <thead><tr><th scope="col">Last seen</th><th scope="col">Began</th><th scope="col">From</th><th scope="col">Browser</th><th scope="col"><span class="unseen">End it</span></th></tr></thead>
  <tbody>
  % for each in sessions:
  <tr>
    <td>{{when(each.seen)}}</td><td>{{when(each.made)}}</td><td>{{each.address}}</td><td class="small">{{each.browser[:80]}}</td>
    <td>
    % if each.id == this_session:
      this one
    % else:
      <form class="inline" method="post" action="{{visit.link('/account/sessions')}}">
        % include('csrf.tpl')
        <input type="hidden" name="session" value="{{each.id}}">
        <button class="quiet">End it</button>
      </form>
    % end
    </td>
  </tr>
  % end
  </tbody>
</table></div>
% if len(sessions) > 1:
<form method="post" action="{{visit.link('/account/sessions')}}">
  % include('csrf.tpl')
  <p><button class="quiet">End all others</button></p>
</form>
% end

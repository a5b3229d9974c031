% rebase('layout.tpl')
<p class="small"><a href="{{visit.link('/groups')}}">Groups</a></p>
<h1>{{group.title}}</h1>
% for line in group.description.splitlines():
<p>{{line}}</p>
% end
<dl class="facts">
  <dt>Name</dt><dd><code>{{group.name}}</code></dd>
  <dt>Administrators</dt><dd>{{', '.join(each.full_name for each in administrators) or 'none of its own: the Administrators see to it'}}</dd>
  <dt>Quota</dt><dd>{{quota}}</dd>
% include('rooms.tpl', rooms=rooms, forecast=0, is_own=False)
</dl>
% if not is_in:
<p>To join it, <a href="{{visit.link('/account')}}">ask on the page of your account</a>.</p>
% end
% if shows_members:
<h2>Members</h2>
% if members:
<div class="scroll" tabindex="0" role="region" aria-label="Members"><table>
  <thead><tr><th scope="col">User</th><th scope="col">Name</th><th scope="col">Institute</th><th scope="col">Since</th><th scope="col"><span class="unseen">Change</span></th></tr></thead>
  <tbody>
  % for account, membership in members:
  <tr>
    % if may['edit']:
    <td><a href="{{visit.link('/accounts/' + account.name)}}">{{account.name}}</a></td>
    % else:
    <td>{{account.name}}</td>
    % end
    <td>{{account.full_name}}
    % if membership.is_administrator:
    <span class="tag">administrator</span>
    % end
    % if account.state != 'active':
    <span class="tag">{{account.state}}</span>
    % end
    </td>
    <td>{{account.institute}}</td>
    <td class="time">{{when(membership.since, False)}}</td>
    <td>
    % if may['remove']:
    <form class="row" method="post" action="{{visit.link('/groups/' + group.name + '/members')}}">
      % include('csrf.tpl')
      <input type="hidden" name="account" value="{{account.name}}">
      % if may['name'] and membership.is_administrator:
      <button class="quiet" name="verb" value="member" aria-label="Not administrator: {{account.name}}">Not administrator</button>
      % elif may['name']:
      <button class="quiet" name="verb" value="administrator" aria-label="Make administrator: {{account.name}}">Make administrator</button>
      % end
      % if may['name'] or not membership.is_administrator:
      <button class="danger" name="verb" value="remove" aria-label="Remove {{account.name}} from the group">Remove</button>
      % end
    </form>
    % end
    </td>
  </tr>
  % end
  </tbody>
</table></div>
% else:
<p class="soft">Nobody yet.</p>
% end
% end
% if may['edit']:
<h2>Change the group</h2>
<form method="post" action="{{visit.link('/groups/' + group.name)}}">
  % include('csrf.tpl')
  <p><label for="title">Title</label>
  <input id="title" name="title" value="{{group.title}}" maxlength="120" required></p>
  <p><label for="description">What it is for</label>
  <textarea id="description" name="description" maxlength="4000">{{group.description}}</textarea></p>
  % if may['quota']:
  <p><label for="quota_mb">Quota of all members together, MiB <span class="hint">0: none</span></label>
  <input id="quota_mb" name="quota_mb" value="{{group.quota_mb}}" inputmode="numeric"></p>
  <p><label for="user_quota_mb">Quota of each member, MiB <span class="hint">0: none</span></label>
  <input id="user_quota_mb" name="user_quota_mb" value="{{group.user_quota_mb}}" inputmode="numeric"></p>
  % end
  <p><button>Save</button></p>
</form>
% end

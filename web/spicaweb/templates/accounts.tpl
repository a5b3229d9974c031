% rebase('layout.tpl')
<h1>Accounts</h1>
<form class="row" method="get" action="{{visit.link('/accounts')}}">
  <p><label for="search">Name or address</label>
  <input id="search" name="search" type="search" value="{{search}}"></p>
  <p><label for="state">State</label>
  <select id="state" name="state">
    <option value="">any</option>
    % for each in states:
    % if each == state:
    <option selected>{{each}}</option>
    % else:
    <option>{{each}}</option>
    % end
    % end
  </select></p>
  <p><button class="quiet">Show</button></p>
</form>
<div class="scroll" tabindex="0" role="region" aria-label="Accounts"><table>
  <thead><tr><th scope="col">User</th><th scope="col">Name</th><th scope="col">Institute</th><th scope="col">Mail address</th><th scope="col">Group</th><th scope="col">State</th></tr></thead>
  <tbody>
  % for each in accounts:
  <tr>
    <td><a href="{{visit.link('/accounts/' + each.name)}}">{{each.name}}</a></td>
    <td>{{each.full_name}}
    % if each.rank == 2:
    <span class="tag">Administrator</span>
    % end
    </td>
    <td>{{each.institute}}</td><td>{{each.mail}}</td><td>{{each.group}}</td><td>{{each.state}}</td>
  </tr>
  % end
  </tbody>
</table></div>
% if not accounts:
<p class="soft">No account is like this.</p>
% end
% if has_more:
<p class="soft">These are the first hundred; search to see others.</p>
% end

% rebase('layout.tpl')
<h1>Ask for an account</h1>
<p>An administrator of the group that you choose answers you by mail. First your address is confirmed.</p>
<form method="post" action="{{visit.link('/request')}}">
  % include('csrf.tpl')
  <p><label for="full_name">Your name</label>
  <input id="full_name" name="full_name" value="{{values.get('full_name', '')}}" autocomplete="name" maxlength="120" required></p>
  <p><label for="institute">Institute</label>
  <input id="institute" name="institute" value="{{values.get('institute', '')}}" autocomplete="organization" maxlength="200"></p>
  <p><label for="mail">Mail address</label>
  <input id="mail" name="mail" type="email" value="{{values.get('mail', '')}}" autocomplete="email" maxlength="254" required></p>
  <p><label for="group">Reduction group</label>
  <select id="group" name="group" required>
    <option value="">Choose one</option>
    % for each in groups:
    % if each.name == values.get('group'):
    <option value="{{each.name}}" selected>{{each.title}}</option>
    % else:
    <option value="{{each.name}}">{{each.title}}</option>
    % end
    % end
  </select></p>
  <p><label for="purpose">Purpose <span class="hint">What you want to reduce, in a sentence or two.</span></label>
  <textarea id="purpose" name="purpose" maxlength="2000" required>{{values.get('purpose', '')}}</textarea></p>
  <p><button>Ask for an account</button></p>
</form>
% if groups:
<h2>The groups</h2>
<dl>
  % for each in groups:
  <dt><strong>{{each.title}}</strong></dt>
  <dd>{{each.description}}</dd>
  % end
</dl>
% end

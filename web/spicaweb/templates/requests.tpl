% rebase('layout.tpl')
<h1>Requests</h1>
% if not wishes:
<p class="soft">Nobody waits for an answer.</p>
% end
% for account, wish in wishes:
<section class="card" aria-labelledby="wish{{wish.id}}">
  <h2 id="wish{{wish.id}}">{{account.full_name}} asks for {{'an account in' if account.state == 'asked' else 'a place in'}} {{wish.group}}</h2>
  <dl class="facts">
    <dt>User name</dt><dd>{{account.name}}</dd>
    <dt>Institute</dt><dd>{{account.institute or 'not given'}}</dd>
    <dt>Mail address</dt><dd>{{account.mail}} (confirmed)</dd>
    <dt>Waits since</dt><dd>{{when(wish.since)}}</dd>
    <dt>Purpose</dt><dd>
    % for line in wish.purpose.splitlines():
    {{line}}<br>
    % end
    </dd>
  </dl>
  <form method="post" action="{{visit.link('/requests/%d' % wish.id)}}">
    % include('csrf.tpl')
    <p><label for="word{{wish.id}}">A word for the mail <span class="hint">May stay empty.</span></label>
    <textarea id="word{{wish.id}}" name="word" maxlength="1000"></textarea></p>
    <p class="row"><button name="verb" value="approve" aria-label="Approve {{account.full_name}}">Approve</button>
    <button class="danger" name="verb" value="decline" aria-label="Decline {{account.full_name}}">Decline</button></p>
  </form>
</section>
% end

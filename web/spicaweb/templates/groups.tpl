% rebase('layout.tpl')
<h1>Groups</h1>
<p>A reduction group shares configurations, rules and a quota, and has administrators of its own.</p>
% if not groups:
<p class="soft">There is no group yet.</p>
% end
<div class="cards">
% for group, administrators in groups:
<section class="card">
  <h2><a href="{{visit.link('/groups/' + group.name)}}">{{group.title}}</a></h2>
  % if visit.actor.is_in(group.name):
  <p><span class="tag">{{'you administer it' if visit.actor.is_administrator_of(group.name) else 'you are a member'}}</span></p>
  % end
  % if group.description:
  <p>{{group.description.splitlines()[0]}}</p>
  % end
  % if administrators:
  <p class="small soft">Administered by {{', '.join(each.full_name for each in administrators)}}</p>
  % end
</section>
% end
</div>
% if may_make:
<h2>A new group</h2>
<form method="post" action="{{visit.link('/groups')}}">
  % include('csrf.tpl')
  <p><label for="name">Name <span class="hint">Small letters, digits and -; it stands in folders and files and does not change.</span></label>
  <input id="name" name="name" autocapitalize="none" spellcheck="false" maxlength="63" required></p>
  <p><label for="title">Title</label>
  <input id="title" name="title" maxlength="120" required></p>
  <p><label for="description">What it is for</label>
  <textarea id="description" name="description" maxlength="4000"></textarea></p>
  <p><button>Make the group</button></p>
</form>
% end

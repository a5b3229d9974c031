% rebase('layout.tpl')
<h1>{{recipe.name}} is handed over</h1>
<div id="handed" data-refresh="{{visit.link('/draft/%d/check' % kept.id)}}">
% if runs:
<p class="note" role="status">The daemon looks it over. Its number shows here in a moment.</p>
% else:
<p class="note" role="status">The daemon does not run just now. The job waits in its spool and is taken when it runs again; nothing is lost.</p>
% end
</div>
<script src="{{static(visit, 'refresh.js')}}" defer></script>
<p><a href="{{visit.link('/draft/%d/check' % kept.id)}}">Look again</a></p>

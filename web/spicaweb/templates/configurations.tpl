% rebase('layout.tpl')
<h1>Configurations</h1>
<p class="choices">
  <a href="{{visit.link('/configurations')}}"{{!' aria-current="true"' if not application else ''}}>all</a>
  % for name in names:
  <a href="{{visit.link('/configurations', application=name)}}"{{!' aria-current="true"' if application == name else ''}}>{{applications[name].title}}</a>
  % end
</p>
% titles = {'configuration': 'Configurations of the tools', 'file': 'Files that configurations name', 'rules': 'Rules'}
% for kind in kinds:
<div class="head"><h2>{{titles[kind]}}</h2>
  % if kind == 'rules':
  <p><a class="button quiet" href="{{visit.link('/configurations/new', kind='rules')}}">New rules</a></p>
  % elif application:
  <p><a class="button quiet" href="{{visit.link('/configurations/new', kind=kind, application=application)}}">New {{'from the default' if kind == 'configuration' else 'file'}}</a></p>
  % end
</div>
% if found[kind]:
<div class="scroll" tabindex="0" role="region" aria-label="{{titles[kind]}}">
<table class="dense">
<thead><tr>
% if kind != 'rules':
<th>Application</th>
% end
<th>Name</th><th>Level</th><th>Version</th><th>By</th><th>Changed</th><th>What changed</th></tr></thead>
<tbody>
% for each in found[kind]:
<tr>
% if kind != 'rules':
<td>{{applications[each.application].title if each.application in applications else each.application}}</td>
% end
<td><a href="{{visit.link('/configuration/%d' % each.id) if each.id else visit.link('/configurations/%s/%s' % (kind, each.name), application=each.application, level=each.level)}}">{{each.name}}</a>{{' (retired)' if each.is_retired else ''}}</td>
<td>{{each.level}}{{' ' + each.group if each.level == 'group' else ''}}</td>
<td>{{each.number if each.id else 'as installed'}}</td><td>{{each.who}}</td><td class="time">{{when(each.made)}}</td><td>{{each.words}}</td></tr>
% end
</tbody></table></div>
% else:
<p class="soft">None.</p>
% end
% end
% if not application:
<p class="soft">To make one, choose its application above.</p>
% end
<p><a href="{{visit.link('/configurations', application=application, retired='' if with_retired else '1')}}">{{'Hide' if with_retired else 'Show'}} retired ones</a></p>

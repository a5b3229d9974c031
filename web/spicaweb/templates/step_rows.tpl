% from spicad.report import number
<div class="scroll" tabindex="0" role="region" aria-label="Steps">
<table class="dense">
<thead><tr><th class="number">No.</th><th>Task</th><th>On</th><th>State</th><th class="number">Seconds</th><th>Figures, or why</th></tr></thead>
<tbody>
% for step in steps:
<tr>
  <td class="number">{{step['number']}}</td>
  <td><a href="{{visit.link('%s/step/%d' % (run_path, step['number']))}}">{{step['application']}}</a></td>
  <td>{{step['label']}}</td>
  <td><span class="phase {{step['state']}}">{{step['state']}}</span></td>
  <td class="number">{{'%.1f' % step['seconds'] if step['seconds'] is not None and step['state'] != 'waiting' else ''}}</td>
  <td class="why">{{step['why'] or ', '.join('%s %s' % (name.replace('_', ' '), number(value)) for name, value in list(step['metrics'].items())[:3])}}</td>
</tr>
% end
</tbody>
</table>
</div>

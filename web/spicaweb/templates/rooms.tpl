% from spicad.quota import GROUP, gigabytes
% for room in rooms:
% standing = room.standing
% share = room.percent(forecast)
  <dt>{{'Disk of the group ' + standing.name if standing.kind == GROUP else 'Your disk' if is_own else 'Disk of ' + standing.name}}</dt>
  <dd>{{gigabytes(standing.used)}} used, {{gigabytes(room.pending)}} forecast for what is queued and runs{{', %s for this process' % gigabytes(forecast) if forecast else ''}}; {{'of ' + gigabytes(standing.most) if standing.most else 'no limit'}}
  % if standing.most:
  <progress max="100" value="{{min(100, round(share))}}" class="{{'bad' if share > 100 else ''}}" aria-label="{{'%.0f' % share}}% of the quota"></progress> {{'%.0f' % share}}%
  % end
  </dd>
% end

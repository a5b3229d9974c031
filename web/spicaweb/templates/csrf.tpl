<input type="hidden" name="csrf" value="{{visit.csrf}}">

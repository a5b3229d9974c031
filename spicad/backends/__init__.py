"""The engines that run steps. Each is one module with the same verbs: start, adopt, exit_code, kill."""

"""From placements to their evaluations: by simulation, from a table, and with an account of what was asked."""

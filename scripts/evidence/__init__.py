"""`make evidence`: judges AC-1 to AC-7 and writes the proof. The probes run on the hosts, the rest here."""

"""Proof that graders are sound: right answers pass, wrong ones are named, mutants and cheats are caught."""

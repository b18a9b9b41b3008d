"""How fast this machine is: the figures behind `bench` and `doctor`, each measured, none assumed."""

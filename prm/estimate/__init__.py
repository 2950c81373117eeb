"""What a recipe would ask, compute and cost before it runs: `prm run RECIPE --dry-run`."""

"""How much of everything a load needs: measured costs, arithmetic, and a simulation that checks it."""

terraform import clearwater_tier.router lab/site1/router

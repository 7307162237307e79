terraform import clearwater_site.site1 lab/site1

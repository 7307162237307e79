terraform import clearwater_shared_config.this lab/site1

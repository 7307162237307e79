mock_provider "clearwater" {}

variables {
  name        = "ims"
  home_domain = "ims.example.com"
  image       = "images.json"
  counts      = { store = 1, diameter = 1, xdms = 1, router = 2, edge = 2, portal = 0 }
  numbers     = { start = "6505550000", count = 10 }
}

run "counts" {
  command = plan

  assert {
    condition     = clearwater_tier.router.node_count == 2 && clearwater_tier.store.engine == "embedded"
    error_message = "counts do not reach the tiers"
  }

  assert {
    condition     = length(clearwater_number_block.this) == 0
    error_message = "a block of numbers without a portal"
  }
}

run "three_store_nodes_have_cassandra" {
  command = plan

  variables {
    counts = { store = 3 }
  }

  assert {
    condition     = clearwater_tier.store.engine == "cassandra" && clearwater_tier.edge.node_count == 1 && length(clearwater_number_block.this) == 1
    error_message = "engine, default count or number block are wrong"
  }
}

run "two_store_nodes" {
  command = plan

  variables {
    counts = { store = 2 }
  }

  expect_failures = [var.counts]
}

run "half_a_node" {
  command = plan

  variables {
    counts = { edge = 1.5 }
  }

  expect_failures = [var.counts]
}

run "name" {
  command = plan

  variables {
    name = "IMS one"
  }

  expect_failures = [var.name]
}

run "home_domain" {
  command = plan

  variables {
    home_domain = "localhost"
  }

  expect_failures = [var.home_domain]
}

run "subscribers" {
  command = plan

  variables {
    subscribers = 0
  }

  expect_failures = [var.subscribers]
}

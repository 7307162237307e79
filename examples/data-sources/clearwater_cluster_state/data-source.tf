data "clearwater_cluster_state" "site1" {
  site_id    = clearwater_site.site1.id
  depends_on = [clearwater_tier.store]
}

output "ready_nodes" {
  value = [for n in data.clearwater_cluster_state.site1.nodes : n.name if n.state == "ready"]
}

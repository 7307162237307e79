# "0.0.0.0.5.5.5.0.5.6.1.e164.arpa"
output "record" {
  value = provider::clearwater::enum_domain("+16505550000", ".e164.arpa")
}

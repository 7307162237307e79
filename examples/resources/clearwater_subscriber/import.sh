terraform import clearwater_subscriber.front_desk lab/site1/sip:6505550100@lab.example.com

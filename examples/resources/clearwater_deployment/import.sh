terraform import clearwater_deployment.lab lab

//  Monitoring

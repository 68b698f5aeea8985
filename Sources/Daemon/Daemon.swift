//  Daemon

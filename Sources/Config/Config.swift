//  Config

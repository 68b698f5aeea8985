//  CommandLine

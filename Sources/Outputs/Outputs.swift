//  Outputs

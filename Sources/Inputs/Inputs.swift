//  Inputs

//  Net

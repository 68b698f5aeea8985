//  TestSupport

//  Queue

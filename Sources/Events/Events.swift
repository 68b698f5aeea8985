//  Events

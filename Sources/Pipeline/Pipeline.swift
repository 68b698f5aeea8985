//  Pipeline

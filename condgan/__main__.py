from condgan.app import start

start()
